"""Write the chosen heads of every task as a list for other programs, and beside it what they output on average.

Reads `importance.parquet`, `baseline.safetensors` and, to choose the heads that suffice, the sets of heads kept alone
and `sufficiency.parquet`; writes a list (JSON, workflow/schemas/heads.schema.json) and a file of vectors (safetensors)
for each task; effects in the unit that the list names.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.exported_heads import significant_heads, sufficient_heads, top_heads
from headatlas.evidence.importance import read_importance
from headatlas.files.head_list import write_head_list
from headatlas.jobs.cli import run
from headatlas.metric import METRICS, OTHER_UNITS


@dataclass(frozen=True)
class Settings:
    """heads: top | significant | keep; tasks in the order of the files; origin: what the map was made from."""

    tasks: list[str]
    heads: str
    method: str
    top: int
    faithfulness: float
    origin: dict


def main(
    settings: Settings,
    importance: Path,
    baseline: Path,
    lists: list[Path],
    vectors: list[Path],
    sets: Path | None = None,
    curve: Path | None = None,
) -> None:
    table = read_importance(importance).filter(method=settings.method)
    if settings.heads == "keep":
        kept = json.loads(sets.read_text(encoding="utf-8"))["sets"]
        curves = pl.read_parquet(curve).filter(method=settings.method)
    about = {"unit": OTHER_UNITS.get(settings.method, METRICS[settings.origin["metric"]].unit)} | settings.origin
    for task, file, means in zip(settings.tasks, lists, vectors, strict=True):
        rows = table.filter(task=task)
        if settings.heads == "top":
            heads, chosen = top_heads(rows, settings.top)
        elif settings.heads == "significant":
            heads, chosen = significant_heads(rows)
        else:
            heads, chosen = sufficient_heads(rows, curves.filter(task=task), kept[task], settings.faithfulness)
        write_head_list(file, means, {"task": task} | about | {"chosen": chosen}, heads, baseline)


if __name__ == "__main__":
    run(main)
