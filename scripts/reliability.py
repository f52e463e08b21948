"""Split-half reliability of the ranking of heads, per method and task.

Reads effects files ({method}/{task}[.layers-A-B].safetensors); writes a table (Parquet): method, task,
reliability, ci_low, ci_high (all in -1 to 1; empty with fewer than 8 questions).
Settings: methods, tasks (in the order of the rows), items (all | correct), halves, confidence, seed.
"""

from pathlib import Path

import polars as pl
from headatlas.errors import HeadAtlasError
from headatlas.job import run
from headatlas.reliability import split_half
from headatlas.scores import effects_by_task, read_task
from headatlas.tables import write_table


def main(settings: dict, effects: list[Path], table: Path) -> None:
    files = effects_by_task(effects)
    options = {
        "halves": settings["halves"],
        "confidence": settings["confidence"],
        "seed": (settings["seed"],),
    }
    rows = []
    for method in settings["methods"]:
        for task in settings["tasks"]:
            if (method, task) not in files:
                raise HeadAtlasError(f"no effects file of {method}, {task} was given; run that method first")
            read = read_task(files[method, task], settings["items"])
            found = split_half(read.effect.reshape(len(read.effect), -1), read.question, **options)
            rows.append((method, task, *found))
    columns = {"method": pl.String, "task": pl.String}
    columns |= dict.fromkeys(("reliability", "ci_low", "ci_high"), pl.Float64)
    write_table(pl.DataFrame(rows, schema=columns, orient="row"), table)


if __name__ == "__main__":
    run(main)
