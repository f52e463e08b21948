"""SHA-256 of input files: a file whose size and time are unchanged is not read again.

Snakemake compares inputs of up to a million bytes by content and larger ones by timestamp alone, so copying or touching
a model's weights would rerun everything. Standard library only; imported at parse time.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

CACHE = Path(".snakemake/headatlas-digests.json")
COMPARED_BY_CONTENT = 1_000_000  # bytes; up to this size Snakemake compares the content itself


def digests(files: Iterable[str], cache: Path = CACHE) -> dict[str, str]:
    """SHA-256 (hex) of each file by its path; works without a cache if that cannot be read or written."""
    known, found = _read(cache), {}
    for file in sorted(files):
        state = os.stat(file)
        mark = [state.st_size, state.st_mtime_ns, state.st_ino]
        entry = known.get(os.path.abspath(file))
        if not entry or entry[0] != mark:
            with open(file, "rb") as opened:
                entry = [mark, hashlib.file_digest(opened, "sha256").hexdigest()]
        found[file] = entry
    added = {os.path.abspath(file): entry for file, entry in found.items()}
    if any(known.get(file) != entry for file, entry in added.items()):
        _write(cache, known | added)
    return {file: digest for file, (_, digest) in found.items()}


def is_large(file: str) -> bool:
    """Whether Snakemake would compare the file by its timestamp."""
    return os.path.getsize(file) > COMPARED_BY_CONTENT


def _read(cache: Path) -> dict:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(cache: Path, known: dict) -> None:
    draft = cache.with_name(f"{cache.name}.{os.getpid()}")
    with suppress(OSError):
        cache.parent.mkdir(exist_ok=True)
        draft.write_text(json.dumps(known), encoding="utf-8")
        os.replace(draft, cache)
