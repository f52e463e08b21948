"""Turns a rule's `main` function into a command line tool, and its outputs into all-or-nothing files.

Knows nothing of Snakemake and of what a job computes: only of arguments, logs, errors and atomic writes.
"""

import argparse
import inspect
import json
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args, get_origin

from headatlas.errors import HeadAtlasError

log = logging.getLogger("headatlas")


def run(main: Callable[..., None], arguments: list[str] | None = None) -> None:
    """Call `main` with options read from the command line; one option per parameter.

    A parameter annotated `dict` is read as JSON, `list[Path]` takes one or more paths, `Path | None` may be
    left out, anything else is called with its annotation (`Path`, `int`, `str`). `--log FILE` is added to every tool.

    Raises:
        SystemExit: with status 1 and one line on stderr when `main` fails; the log keeps the traceback.
    """
    parser = _parser(main)
    options = vars(parser.parse_args(arguments))
    log_file = options.pop("log")
    _start_log(log_file)
    try:
        main(**options)
    except HeadAtlasError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or parser.prog}", log_file)
    except Exception as error:
        _fail(f"{parser.prog}: {type(error).__name__}: {error}", log_file)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that becomes `path` only when the block ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        yield draft
        with open(draft, "rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, path)


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
        option["type"] = json.loads if kind is dict else kind
        if get_origin(parameter.annotation) is list:
            option["nargs"] = "+"
        parser.add_argument(f"--{name.replace('_', '-')}", **option)
    parser.add_argument("--log", type=Path, default=None, help="also write messages to this file")
    return parser


def _start_log(file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(file, mode="w", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers = handlers
    log.setLevel(logging.INFO)
    log.propagate = False


def _fail(message: str, log_file: Path | None = None) -> None:
    """Say `message` in one line; where it is not the user's mistake, keep the traceback in the log only."""
    log.error("error: %s", " ".join(message.split("\n")))
    if log_file is not None:
        with open(log_file, "a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
    sys.exit(1)
