"""What a safetensors file says of its tensors before any is read: formats, shapes, sizes. Standard library only.

The format: length of the header (8 bytes), header (JSON), data.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headatlas.errors import HeadAtlasError

FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # number format in a safetensors file -> bytes of a value
LARGEST_HEADER = 100_000_000  # bytes; the safetensors library's own limit


@dataclass(frozen=True)
class Stored:
    """A tensor in a safetensors file: its number format there, its shape, the bytes it takes there."""

    format: str
    shape: tuple[int, ...]
    n_bytes: int

    def loaded(self, each: int) -> int:
        """Bytes in memory, if a value of a floating-point matrix takes `each` there."""
        if self.format not in FLOATS:
            return self.n_bytes
        return self.n_bytes // FLOATS[self.format] * (each if len(self.shape) > 1 else 4)


def stored_tensors(file: Path) -> dict[str, Stored]:
    """The tensors of a complete file by name.

    Raises:
        HeadAtlasError: it cannot be read, is truncated, or is no such file.
    """
    try:
        found = os.stat(file)
    except OSError as error:
        raise HeadAtlasError(f"{file}: cannot be read: {error.strerror}; get it again") from None
    return _read_tensors(str(file), found.st_size, found.st_mtime_ns)


@cache
def _read_tensors(file: str, size: int, _time: int) -> dict[str, Stored]:
    """As `stored_tensors`; every job of a plan asks, so a file is read once until its size or time changes."""
    try:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = opened.read(length) if 8 + length <= min(size, LARGEST_HEADER) else b""
    except OSError as error:
        raise HeadAtlasError(f"{file}: cannot be read: {error.strerror}; get it again") from None
    try:
        entries = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        tensors = {name: _stored(entry) for name, entry in entries.items()}
        promised = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise HeadAtlasError(f"{file}: is not a safetensors file, or has a truncated header; get it again") from None
    if size < promised:
        raise HeadAtlasError(f"{file}: is truncated: {size} of {promised} bytes exist; get it again")
    return tensors


def _stored(entry: dict) -> Stored:
    start, end = entry["data_offsets"]
    return Stored(str(entry.get("dtype")), tuple(entry.get("shape", ())), end - start)
