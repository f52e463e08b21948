"""A JSON list of objects. Standard library only."""

from collections.abc import Iterator
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.tasks.strict_json import parse
from headatlas.tasks.text_file import read_text

EXPECTED = "a list of objects with prompt and answer"


def entries(path: Path) -> Iterator[tuple[int, object]]:
    """Yield each entry's number, from 1, and value.

    Raises:
        HeadAtlasError: file and what is wrong.
    """
    content = parse(read_text(path), str(path))
    if not isinstance(content, list):
        raise HeadAtlasError(f"{path}: must be a JSON list of objects with prompt and answer")
    yield from enumerate(content, 1)
