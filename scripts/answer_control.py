"""Test whether the hottest heads of each task carry the token of the answer or what is specific to the question.

Reads the file of patches (safetensors); writes a table (Parquet, see `headatlas.evidence.answer_control`): effects in
nats.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.evidence.answer_control import answer_control
from headatlas.evidence.importance import write_table
from headatlas.files.patches import read_patches
from headatlas.jobs.cli import run


@dataclass(frozen=True)
class Settings:
    """confidence: of the intervals."""

    confidence: float


def main(settings: Settings, patches: Path, table: Path) -> None:
    write_table(answer_control(read_patches(patches), settings.confidence), table)


if __name__ == "__main__":
    run(main)
