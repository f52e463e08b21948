"""Progress of a job, with rate and remaining time: a bar on a terminal, else a line a minute."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from headatlas.jobs.cli import log

EVERY = 60  # seconds between two lines in a log


@contextmanager
def progress(name: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Callable]:
    """Yield `advance(n)`; show progress while open, and log one line with the rate at the end.

    On a terminal stderr shows a bar, and only the log file gets the lines. `advance` takes a negative
    number where work starts over; the rate then counts from that moment.

    Args:
        total: how many of `unit` there are, or at most; clock: seconds.
    """
    on_terminal = sys.stderr.isatty()
    say = log.debug if on_terminal else log.info
    start = begun = said = clock()
    done = 0
    with tqdm(
        total=total, desc=name, unit=f" {unit}", file=sys.stderr, mininterval=1, dynamic_ncols=True,
        disable=not on_terminal,
    ) as bar:  # fmt: skip

        def advance(n: int) -> None:
            nonlocal done, begun, said
            begun = clock() if n < 0 else begun
            done += n
            bar.update(n)
            if clock() - said >= EVERY and done:
                said = clock()
                say(_line(name, done, total, unit, said - begun))

        yield advance
    seconds = clock() - start
    log.info("%s: %d %s in %.1f s, %.1f %s/s", name, done, unit, seconds, done / max(seconds, 1e-9), unit)


def _line(name: str, done: int, total: int, unit: str, seconds: float) -> str:
    """`ablate: 1,200 of 4,800 heads x items (25 %), 10.0/s, 6 min left`."""
    rate = done / seconds
    left = (total - done) / rate
    remaining = f"{left / 60:.0f} min" if left >= 120 else f"{left:.0f} s"
    return f"{name}: {done:,} of {total:,} {unit} ({100 * done // total} %), {rate:.1f}/s, {remaining} left"
