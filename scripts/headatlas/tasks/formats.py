"""Which format a task file has. Standard library only."""

import re
from pathlib import Path

FORMATS = {
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}  # a .json file's content decides between json and cogqa
TELLING = re.compile(rb'"(prompt|generated)"\s*:')


def format_of(path: str | Path) -> str | None:
    """Infer a file's format from its suffix, and that of a .json file from its first keys; None if unknown."""
    suffix = Path(path).suffix.lower()
    if suffix != ".json":
        return FORMATS.get(suffix)
    try:
        with open(path, "rb") as file:
            found = TELLING.search(file.read(1 << 16))
    except OSError:
        found = None
    return "json" if found and found[1] == b"prompt" else "cogqa"
