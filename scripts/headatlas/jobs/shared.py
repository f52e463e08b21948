"""Values that the fork server computes once and its forks inherit: all jobs share the memory of one model.

A memory page stays shared until a fork writes to it.
"""

import gc
import json
import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import NamedTuple

from tqdm import tqdm

from headatlas.jobs.cli import log

MOST = 2  # values kept per function: a run may compare two models, for example


class _Held(NamedTuple):
    value: object
    said: list[logging.LogRecord]


_held: dict[str, _Held] = {}


def shared(function: Callable) -> Callable:
    """Make a function of JSON values return the value that the fork server has computed, if any.

    The server calls `.prepare(...)` with the same positional arguments before it forks. Every job that uses the value
    repeats what the function logged.
    """

    @wraps(function)
    def take(*given):
        held = _held.get(_key(function, given))
        if held is None:
            start = time.perf_counter()
            value = function(*given)
            log.debug("%s: %.1f s", function.__name__, time.perf_counter() - start)
            return value
        for record in held.said:
            log.handle(record)
        log.debug("%s: shared by the fork server", function.__name__)
        return held.value

    take.prepare = lambda *given: _prepare(function, given)
    return take


def _prepare(function: Callable, given: tuple) -> None:
    key = _key(function, given)
    if key in _held:
        return
    own = [other for other in _held if other.startswith(f"{function.__qualname__} ")]
    for other in own[: len(own) - MOST + 1]:
        del _held[other]
    tqdm.monitor_interval = 0  # a progress bar has a monitor thread, which a fork would lack
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append
    level = log.level
    log.addHandler(listener)
    log.setLevel(logging.DEBUG)
    try:
        _held[key] = _Held(function(*given), said)
    finally:
        log.removeHandler(listener)
        log.setLevel(level)
    gc.collect()
    gc.freeze()  # a garbage collection in a fork would write to all objects


def _key(function: Callable, given: tuple) -> str:
    return f"{function.__qualname__} {json.dumps(given, sort_keys=True, default=str)}"
