"""Values that several jobs use: the fork server computes them once for its forks, a worker once for its own jobs.

A memory page stays shared until a fork writes to it.
"""

import gc
import json
import logging
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

from tqdm import tqdm

from headatlas.jobs.cli import log

MOST = 2  # values that a fork server holds per function: a run may compare two models, for example


class _Held(NamedTuple):
    value: object
    said: list[logging.LogRecord]


_held: dict[str, _Held] = {}
_holds_one = False  # whether this process is a worker


def shared(function: Callable) -> Callable:
    """Make a function of JSON values return the value that this process holds, if any.

    A fork server computes it by `.prepare(...)`, with the same positional arguments, before it forks; a worker when its
    first job calls the function. Every job that uses the value repeats what the function logged.
    """

    @wraps(function)
    def take(*given):
        held = _held.get(_key(function, given))
        if held is None:
            start = time.perf_counter()
            value = _hold(function, given, 1) if _holds_one else function(*given)
            log.debug("%s: %.1f s", function.__name__, time.perf_counter() - start)
            return value
        for record in held.said:
            log.handle(record)
        log.debug("%s: shared with other jobs", function.__name__)
        return held.value

    take.prepare = lambda *given: _prepare(function, given)
    return take


def hold_one() -> None:
    """Make this process a worker: from now on it holds the last value of every shared function."""
    global _holds_one
    _held.clear()
    _holds_one = True


def let_go() -> None:
    """Free all values that this process holds."""
    _held.clear()
    settle()


def settle() -> None:
    """Free what nothing refers to any more, also on GPUs, so that a job starts as in a process of its own."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _prepare(function: Callable, given: tuple) -> None:
    if _key(function, given) in _held:
        return
    tqdm.monitor_interval = 0  # a progress bar has a monitor thread, which a fork would lack
    level = log.level
    log.setLevel(logging.DEBUG)
    try:
        _hold(function, given, MOST)
    finally:
        log.setLevel(level)
    gc.collect()
    gc.freeze()  # a garbage collection in a fork would write to all objects


def _hold(function: Callable, given: tuple, most: int) -> object:
    """The value, held together with what the function logs; first of all frees older ones beyond `most`."""
    own = [other for other in _held if other.startswith(f"{function.__qualname__} ")]
    for other in own[: len(own) - most + 1]:
        del _held[other]
    settle()
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append
    log.addHandler(listener)
    try:
        value = function(*given)
    finally:
        log.removeHandler(listener)
    _held[_key(function, given)] = _Held(value, said)
    return value


def _key(function: Callable, given: tuple) -> str:
    return f"{function.__qualname__} {json.dumps(given, sort_keys=True, default=str)}"
