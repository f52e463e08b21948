"""Tables of comma- or tab-separated values whose first row names the columns. Standard library only."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.tasks.item import REQUIRED
from headatlas.tasks.text_file import read_text
from headatlas.wording import shorten

EXPECTED = "a first row prompt,answer and one item per row"


def entries(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the last line number of each row and its cells by column name.

    An empty cell counts as a missing key, except for prompt and answer.

    Raises:
        HeadAtlasError: file, line and what is wrong.
    """
    tabs = path.suffix.lower() == ".tsv"
    text = io.StringIO(read_text(path), newline="")
    rows = csv.DictReader(text, strict=True, delimiter="\t" if tabs else ",")
    try:
        _check_first_row(rows.fieldnames or [], path, "tabs" if tabs else "commas")
        for row in rows:
            if None in row:
                raise HeadAtlasError(
                    f"{path}:{rows.line_num}: has more cells than the first row; put texts with commas in double quotes"
                )
            yield rows.line_num, {key: value for key, value in row.items() if value or key in REQUIRED}
    except csv.Error as error:
        raise HeadAtlasError(f"{path}:{rows.reader.line_num}: is not valid CSV: {error}; fix it") from None


def _check_first_row(names: list[str], path: Path, separators: str) -> None:
    if names and not set(REQUIRED) & set(names):
        found = shorten(", ".join(f"'{name}'" for name in names), 200)
        raise HeadAtlasError(
            f"{path}:1: the first row must name the columns prompt and answer, separated by {separators}; "
            f"it holds {found}"
        )
    if len(set(names)) < len(names):
        raise HeadAtlasError(f"{path}:1: the first row has two columns of the same name; rename one")
