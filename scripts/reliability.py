"""Split-half reliability of the maps, per method and task: of the ranking of heads and of importance values.

Reads the folder of the effects; writes a table (Parquet): method, task, reliability, ci_low, ci_high (of the ranking,
all in -1 to 1), value_reliability, value_ci_low, value_ci_high (of the values), n_questions, questions_needed,
value_questions_needed (for a reliability of 0.9, by the Spearman-Brown formula); reliabilities are empty with fewer
than 8 questions, and for adaptive ablation, whose heads are measured on different questions. Learned maps are compared
between the two seeds of a pair, without an interval.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.importance import write_table
from headatlas.evidence.reliability import UNKNOWN, paired_seeds, questions_needed, split_half
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """effects: file names per method in {method}/, with placeholder {task}; tasks in the order of the rows."""

    effects: dict[str, list[str]]
    tasks: list[str]
    items: str
    halves: int
    confidence: float
    seed: int


def main(settings: Settings, effects: Path, table: Path) -> None:
    options = {"halves": settings.halves, "confidence": settings.confidence, "seed": (settings.seed,)}
    rows = []
    for method, task, read in read_maps(effects, settings.effects, settings.tasks, settings.items):
        n_questions = read.seeds["n_questions"] if read.seeds else len(set(read.question.tolist()))
        found = [UNKNOWN, UNKNOWN]
        if read.seeds:
            found = [(paired_seeds(read.flat, of=of), math.nan, math.nan) for of in ("ranking", "values")]
        elif read.complete:
            found = [split_half(read.flat, read.question, of=of, **options) for of in ("ranking", "values")]
        needed = [questions_needed(value, n_questions) for value, _, _ in found]
        rows.append((method, task, *found[0], *found[1], n_questions, *needed))
    columns = {"method": pl.String, "task": pl.String}
    names = ("reliability", "ci_low", "ci_high")
    columns |= dict.fromkeys([*names, *(f"value_{name}" for name in names)], pl.Float64) | {"n_questions": pl.Int32}
    columns |= dict.fromkeys(("questions_needed", "value_questions_needed"), pl.Int64)
    write_table(pl.DataFrame(rows, schema=columns, orient="row"), table)


if __name__ == "__main__":
    run(main)
