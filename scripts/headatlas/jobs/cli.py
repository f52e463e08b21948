"""Turns a rule's `main` function into a command-line tool that writes its outputs all or nothing.

Knows arguments, logs, errors and atomic writes; nothing about Snakemake or what a job computes.
"""

import argparse
import errno
import glob
import inspect
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin

from headatlas.errors import HeadAtlasError

log = logging.getLogger("headatlas")
log.addHandler(logging.NullHandler())  # reading task files outside a job reports only mistakes

PARENT = "HEADATLAS_PARENT"  # set by the rules: the process id of the Snakemake that started the job
_orphaned: Callable[[], bool] = lambda: False  # noqa: E731
_spent = 0.0  # seconds of processor time that earlier jobs of this process took


def run(
    main: Callable[..., None], arguments: list[str] | None = None, orphaned: Callable[[], bool] | None = None
) -> None:
    """Call `main` with options from the command line, one per parameter.

    The annotation of a parameter decides what its option takes: a dataclass takes JSON with exactly its fields, `dict`
    any JSON, `list[Path]` one or more paths; `Path | None` is optional; any other type (`Path`, `int`, `str`) is called
    with the option's text. `--log FILE` is added to every tool.

    Args:
        orphaned: whether the process that started this job is gone; by default, whether the process HEADATLAS_PARENT
            (if set) is. An orphan exits, because a later run could not tell its files from its own.

    Raises:
        SystemExit: with status 1 and one line on stderr when `main` fails; the log keeps the traceback.
    """
    global _spent
    parser = _parser(main)
    options = vars(parser.parse_args(arguments))
    log_file = options.pop("log")
    given = os.environ.pop(PARENT, None)
    if orphaned is None and given:
        orphaned = lambda: os.getppid() != int(given)  # noqa: E731
    start = time.monotonic()
    try:
        with _watched(orphaned):
            _start_log(log_file)
            main(**options | _settings(main, options))
            log.debug(_usage(time.monotonic() - start))
            _spent = time.process_time()
    except HeadAtlasError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or parser.prog}: {error.strerror or error}", log_file)
    except Exception as error:
        where = f"; the traceback is in {log_file}" if log_file else ""
        _fail(f"{parser.prog}: {type(error).__name__}: {error} (a bug, not your mistake{where})", log_file)


def call(function: Callable[..., object], main: Callable[..., None], arguments: list[str]) -> object:
    """Call `function` with those of a job's options that match its parameters.

    Raises:
        HeadAtlasError: as in `run`; SystemExit: the options cannot be read.
    """
    options = vars(_parser(main).parse_args(arguments))
    options |= _settings(main, options)
    return function(**{name: options[name] for name in inspect.signature(function).parameters})


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name next to `path` that becomes `path` only if the block ends without error.

    Drafts of the same file that a killed job left are removed.

    Raises:
        HeadAtlasError: the disk is full, or the folder cannot be written to.
    """
    with _replacing(Path(path)) as draft:
        yield draft
        with open(draft, "rb") as written:
            os.fsync(written.fileno())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic`, for a folder: yield a new empty one, which becomes `path`, where nothing may be."""
    with _replacing(Path(path)) as draft:
        draft.mkdir()
        yield draft


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
        ) as folder:
            draft = Path(folder) / path.name
            yield draft
            _end_if_orphaned()
            os.replace(draft, path)
    except Exception as error:
        if reason := _refused(error, path.parent):
            raise HeadAtlasError(f"{path}: cannot be written: {reason}, then run again") from error
        raise


def _refused(error: Exception, folder: Path) -> str | None:
    """Why `folder` accepts no file, and what to do; None for other errors. Libraries wrap the cause."""
    advice = {
        errno.ENOSPC: "no space left on the disk; free some",
        errno.EDQUOT: "the disk quota is used up; free some space",
        errno.EFBIG: "the file is larger than this system allows; raise the limit (ulimit -f)",
        errno.EROFS: "the disk is read-only; make it writable",
        errno.EACCES: "no permission to write there; make the folder writable",
    }
    if isinstance(error, OSError):
        elsewhere = error.filename and not str(error.filename).startswith(str(folder))
        return None if elsewhere else advice.get(error.errno)
    hidden = (reason for number, reason in advice.items() if f"os error {number})" in str(error))  # safetensors
    return next(hidden, None)


def write_json(path: Path, content: object) -> None:
    """Write `content` as indented JSON with a final newline, atomically."""
    with atomic(path) as draft:
        draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _parser(main: Callable[..., None]) -> argparse.ArgumentParser:
    module = inspect.getmodule(main)
    parser = argparse.ArgumentParser(
        prog=Path(module.__file__).stem,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, parameter in inspect.signature(main).parameters.items():
        option: dict = {"required": parameter.default is inspect.Parameter.empty}
        if not option["required"]:
            option["default"] = parameter.default
        kind = next((part for part in get_args(parameter.annotation) if part is Path), parameter.annotation)
        option["type"] = json.loads if kind is dict or is_dataclass(kind) else kind
        if is_dataclass(kind):
            option |= {"metavar": "JSON", "help": _fields(kind)}
        if get_origin(parameter.annotation) is list:
            option["nargs"] = "+"
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    parser.add_argument("--log", type=Path, default=None, help="also write messages to this file")
    return parser


def _fields(kind: type) -> str:
    """The settings of a dataclass with their types, and its docstring."""
    typed = ", ".join(f"{field.name} ({inspect.formatannotation(field.type)})" for field in fields(kind))
    return f"an object with {typed}. {inspect.getdoc(kind)}".replace("%", "%%")


def _settings(main: Callable[..., None], options: dict) -> dict:
    """The options annotated as dataclasses, built from the given JSON.

    Raises:
        HeadAtlasError: names the option and each key that is unknown or missing.
    """
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(main).parameters.items()}
    return {name: _read(kind, options[name], f"--{name}") for name, kind in kinds.items() if is_dataclass(kind)}


def _read(kind: type, given: object, option: str) -> object:
    names = [field.name for field in fields(kind)]
    if not isinstance(given, dict):
        raise HeadAtlasError(f"{option}: must be a JSON object with {', '.join(names)}")
    required = [field.name for field in fields(kind) if field.default is MISSING]
    wrong = [f"'{name}' is unknown" for name in given if name not in names]
    wrong += [f"'{name}' is missing" for name in required if name not in given]
    if wrong:
        raise HeadAtlasError(f"{option}: {', '.join(wrong)}; it takes {', '.join(names)}")
    return kind(**given)


def _start_log(file: Path | None) -> None:
    logging.raiseExceptions = False  # the job reports a full disk once, not at each line of its log
    for handler in log.handlers:
        handler.close()
    log.handlers = []
    log.setLevel(logging.DEBUG)
    log.propagate = False
    _add(logging.StreamHandler(sys.stderr), logging.INFO)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        _add(logging.FileHandler(file, mode="w", encoding="utf-8"), logging.DEBUG)


def _add(handler: logging.Handler, level: int) -> None:
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    log.addHandler(handler)


def _usage(seconds: float) -> str:
    """Time and memory of the job, for the log; Snakemake's own benchmark does not see forks of the fork server."""
    processor = time.process_time() - _spent
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = most * (1 if sys.platform == "darwin" else 1024) // 10**6  # macOS counts bytes, Linux KiB
    return f"took {seconds:.1f} s, {processor:.1f} s of processor time, {megabytes} MB of memory at most"


@contextmanager
def _watched(orphaned: Callable[[], bool] | None) -> Iterator[None]:
    """End this process as soon as the job in the block is an orphan; `orphaned` None: it has no parent to lose."""
    global _orphaned
    if orphaned is None:
        yield
        return
    before, _orphaned, over = _orphaned, orphaned, threading.Event()
    watcher = threading.Thread(target=_watch, args=(over,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        _orphaned = before


def _watch(over: threading.Event) -> None:
    while not over.is_set():
        _end_if_orphaned()
        over.wait(0.2)


def _end_if_orphaned() -> None:
    if _orphaned():
        os._exit(1)


def _fail(message: str, log_file: Path | None = None) -> None:
    """Print `message` on one line; if it is not the user's mistake, write the traceback to the log only."""
    log.error("error: %s", " ".join(message.split("\n")))
    if log_file is not None:
        with suppress(OSError), open(log_file, "a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    sys.exit(1)
