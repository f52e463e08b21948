"""Task files as text: names, sizes, encoding. Standard library only."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headatlas.errors import HeadAtlasError

LONGEST_LINE = 1 << 20  # bytes of one JSON line; a longer line means another kind of file
LARGEST_FILE = 1 << 28  # bytes of a JSON or CSV file, which is read as a whole


def short_names(sources: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each file with a short name; files with the same name keep their full path."""
    short = Counter(Path(path).name for path in sources)
    return [(Path(path), Path(path).name if short[Path(path).name] == 1 else str(path)) for path in sources]


def listed(sources: Iterable[Path | str]) -> str:
    """Join the names of files."""
    return ", ".join(map(str, sources))


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the non-empty lines with their numbers, from 1, holding one line in memory at a time.

    Raises:
        HeadAtlasError: a file that cannot be read, a line that is too long or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                where = f"{path}:{number}"
                if len(raw) > LONGEST_LINE:
                    raise HeadAtlasError(f"{where}: is longer than {LONGEST_LINE} bytes; is this JSON lines?")
                line = _decoded(raw, where, start=number == 1)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise HeadAtlasError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The whole text of a file.

    Raises:
        HeadAtlasError: a file that cannot be read, is too large or not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise HeadAtlasError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST_FILE:
        raise HeadAtlasError(f"{path}: is larger than {LARGEST_FILE} bytes; is this a task file?")
    return _decoded(raw, str(path))


def _decoded(raw: bytes, where: str, start: bool = True) -> str:
    try:
        return raw.decode("utf-8-sig" if start else "utf-8")  # -sig: some editors write a byte-order mark
    except UnicodeDecodeError as error:
        raise HeadAtlasError(f"{where}: is not UTF-8 text (byte {error.start}); save the file as UTF-8") from None
