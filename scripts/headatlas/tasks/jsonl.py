"""JSON lines: one object per line. Standard library only."""

from collections.abc import Iterator
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.tasks.strict_json import parse
from headatlas.tasks.text_file import read_lines

EXPECTED = "one JSON object with prompt and answer per line"


def entries(path: Path) -> Iterator[tuple[int, object]]:
    """Yield each line's number and value.

    Raises:
        HeadAtlasError: file, line and what is wrong.
    """
    for number, line in read_lines(path):
        entry = parse(line, f"{path}:{number}")
        if isinstance(entry, list):
            raise HeadAtlasError(
                f"{path}:{number}: is a JSON list, not an object; set format: json for a list of prompts and answers, "
                "or cogqa for CogQA files"
            )
        yield number, entry
