"""A progress bar on stderr with items per second, and its last state in the log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from headatlas.jobs.cli import log


@contextmanager
def progress(name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield `advance(n)`; shows a bar while open and logs one line with the rate when done."""
    start = time.perf_counter()
    with tqdm(total=total, desc=name, unit=f" {unit}", file=sys.stderr, mininterval=5, dynamic_ncols=True) as bar:
        yield bar.update
    seconds = time.perf_counter() - start
    log.info("%s: %d %s in %.1f s, %.1f %s/s", name, total, unit, seconds, total / max(seconds, 1e-9), unit)
