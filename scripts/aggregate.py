"""All score files of one model as one tidy table.

Reads score files, or the folder that holds them ({method}/{task}/layer-{layer}.parquet); writes the
importance table (Parquet and CSV), one row per method, task, layer and head; effects in nats per token.
Settings: methods and tasks, each a list in the order of the rows.
"""

from pathlib import Path

from headatlas.job import run
from headatlas.tables import gather, score_files, write_importance


def main(settings: dict, scores: list[Path], table: Path, csv: Path) -> None:
    methods, tasks = settings["methods"], settings["tasks"]
    write_importance(gather(score_files(scores, methods, tasks), methods, tasks), table, csv)


if __name__ == "__main__":
    run(main)
