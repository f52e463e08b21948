"""What a user of the library gives, checked as in a config or a task file: options, items, heads."""

import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from operator import index
from pathlib import Path
from tempfile import TemporaryDirectory

from headatlas.config.schema import complaints, fill_defaults, key_path
from headatlas.errors import HeadAtlasError
from headatlas.files.head_list import read_head_list
from headatlas.jobs.cli import log
from headatlas.tasks.formats import format_of
from headatlas.tasks.prepare import prepare_items
from headatlas.tasks.tokens import Tokeniser

TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")
Items = list[dict] | str | Path  # of one task: the objects of a task file, or its path


def checked(schema: dict, given: dict) -> dict:
    """The options with the schema's defaults.

    Args:
        schema: the part of the config's schema that describes them.

    Raises:
        HeadAtlasError: each mistake, as for the same keys of a config.
    """
    if wrong := complaints(schema, given):
        raise HeadAtlasError("\n".join(f"{key_path(at)}: {said}" for at, said in wrong))
    return fill_defaults(schema, given)


def read_tasks(
    given: Items | dict[str, Items], partners: list[str], tokeniser: Tokeniser, chat: bool, longest: int | None
) -> dict[str, list[dict]]:
    """Tokenised items by task, in the order in which the workflow would have them; all of them count as score items.

    Args:
        given: the items of one task, which is then called `items`, or those of several by name.
        partners: the texts that every item must have besides prompt and answer.
        chat: whether prompts become messages of a chat; longest: tokens of an item; longer ones are left out.

    Raises:
        HeadAtlasError: as for task files; a file that is not of prompts and answers.
    """
    tasks = given if isinstance(given, dict) else {"items": given}
    settings = {"join": None if chat else "auto", "max_items": None, "max_tokens": longest, "seed": 0}
    settings |= {"validate_fraction": 0, "partners": partners}
    for name in tasks:
        if not TASK.fullmatch(name):
            raise HeadAtlasError(f"task '{name}': use lower-case letters, digits and underscore, a letter first")
    return {name: _read(items, settings | {"task": name}, tokeniser) for name, items in sorted(tasks.items())}


def _read(given: Items, settings: dict, tokeniser: Tokeniser) -> list[dict]:
    if isinstance(given, str | Path):
        form = format_of(given)
        if form in (None, "cogqa"):
            raise HeadAtlasError(f"{given}: give JSON lines, a JSON list, CSV or TSV of prompts and answers")
        content = prepare_items(settings | {"format": form}, [Path(given)], tokeniser)
    else:
        content = _listed(given, settings, tokeniser)
    return [item | {"split": "score"} for item in content["items"]]


def _listed(given: Iterable[dict], settings: dict, tokeniser: Tokeniser) -> dict:
    """As for a file of the same JSON, but messages name the task."""
    entries = [{**entry, "split": "score"} if isinstance(entry, dict) else entry for entry in given]
    try:
        text = json.dumps(entries)
    except (TypeError, ValueError) as error:
        raise HeadAtlasError(f"{settings['task']}: items must be plain values: {error}") from None
    with TemporaryDirectory() as folder:
        file = Path(folder) / settings["task"]
        file.write_text(text, encoding="utf-8")
        try:
            return prepare_items(settings | {"format": "json"}, [file], tokeniser)
        except HeadAtlasError as error:
            raise HeadAtlasError(str(error).replace(str(file), settings["task"])) from None


def read_heads(heads: Iterable[tuple[int, int]] | str | Path) -> list[tuple[int, int]]:
    """Heads as (layer, head) pairs, given as such or as a list of heads that a run has written (heads/{task}.json).

    Raises:
        HeadAtlasError: the file is no such list, or something else is not a pair of whole numbers.
    """
    if isinstance(heads, str | Path):
        return read_head_list(Path(heads)).heads
    pairs = []
    for pair in heads:
        try:
            layer, head = map(index, pair)
        except (TypeError, ValueError):
            raise HeadAtlasError(f"heads: must be (layer, head) pairs of whole numbers, got {pair!r}") from None
        pairs.append((layer, head))
    return pairs


@contextmanager
def warned() -> Iterator[None]:
    """While open, what a job would warn of in its log is a Python warning."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.warn(record.getMessage(), stacklevel=2)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
