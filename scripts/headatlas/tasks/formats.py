"""Which format a task file has. Standard library only."""

import re
from pathlib import Path

FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "csv"}  # in a .json file, the content tells json from cogqa
TELLING = re.compile(rb'"(prompt|generated)"\s*:')


def format_of(path: str | Path) -> str | None:
    """Tell a file's format from its name, and of a .json file from its first keys; None where nothing tells it."""
    suffix = Path(path).suffix.lower()
    if suffix != ".json":
        return FORMATS.get(suffix)
    try:
        with open(path, "rb") as file:
            found = TELLING.search(file.read(1 << 16))
    except OSError:
        found = None
    return "json" if found and found[1] == b"prompt" else "cogqa"
