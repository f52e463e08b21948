"""All score files of one model as one tidy table.

Reads the folder of the score files ({method}/{task}/layer-{layer}.parquet); writes the importance table (Parquet
and CSV), one row per method, task, layer and head; effects in nats per token.
Settings: methods and tasks, each a list in the order of the rows; layers (how many the model has).
"""

from pathlib import Path

from headatlas.evidence.importance import gather, score_files, write_importance
from headatlas.jobs.cli import run


def main(settings: dict, scores: Path, table: Path, csv: Path) -> None:
    methods, tasks = settings["methods"], settings["tasks"]
    files = score_files(scores, methods, tasks, settings["layers"])
    write_importance(gather(files, methods, tasks), table, csv)


if __name__ == "__main__":
    run(main)
