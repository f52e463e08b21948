"""Writes safetensors files piece by piece, so that a job's memory does not grow with the number of items.

The safetensors library writes whole tensors only; the format is a length, a JSON header and raw bytes
(https://huggingface.co/docs/safetensors), so the header is written first and the data through a memory map.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from headatlas.jobs.cli import atomic

CODES = {"float32": "F32", "int64": "I64", "uint8": "U8"}


@contextmanager
def tensor_file(
    path: Path, layout: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield writable arrays, one per name in `layout` (name -> dtype, shape); `path` appears complete at the end.

    Elements that are not written stay zero.
    """
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offsets, end = {}, 0
    for name, (dtype, shape) in layout.items():
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [end, end + size]}
        offsets[name], end = end, end + size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # data start aligned to 8 bytes, as the format asks
    start = 8 + len(head)
    with atomic(path) as draft:
        with open(draft, "wb") as file:
            file.write(len(head).to_bytes(8, "little") + head)
            _reserve(file.fileno(), start + end)
        arrays = {
            name: np.memmap(draft, dtype=dtype, mode="r+", offset=start + offsets[name], shape=shape)
            if np.prod(shape)
            else np.empty(shape, dtype)
            for name, (dtype, shape) in layout.items()
        }
        yield arrays
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()


def _reserve(descriptor: int, size: int) -> None:
    """Reserve disk space for a file: on a full disk a write through the memory map would kill the process."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)
