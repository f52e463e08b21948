"""Compute agreement between methods per task, and overlap between tasks per method.

Reads the importance table; writes two tables (Parquet): method agreement (task, method_a, method_b,
rank_correlation, overlap, k, p_value, p_adjusted) and task overlap (method, task_a, task_b, rank_correlation, jaccard,
k, p_value, p_adjusted).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.agreement import method_agreement, task_overlap
from headatlas.evidence.importance import read_importance, with_heads, write_table
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """top: share of the heads that count as top (0.1 = a tenth)."""

    top: float
    permutations: int
    seed: int


def main(settings: Settings, importance: Path, agreement: Path, overlap: Path) -> None:
    table = with_heads(read_importance(importance))
    options = (settings.top, settings.permutations, settings.seed)
    write_table(method_agreement(table, *options), agreement)
    write_table(task_overlap(table, *options), overlap)


if __name__ == "__main__":
    run(main)
