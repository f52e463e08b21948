"""Files of prompts and answers, in any format: from their entries to items. Standard library only."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.tasks import csv_table, json_list, jsonl
from headatlas.tasks.fields import kind, refuse_repeats, require_keys, require_object, text_id, text_of
from headatlas.tasks.item import REQUIRED, Item
from headatlas.tasks.strict_json import plain
from headatlas.tasks.text_file import listed, short_names
from headatlas.wording import nearest, shorten

FORMATS = {"jsonl": jsonl, "json": json_list, "csv": csv_table}
OPTIONAL = ("id", "question_id", "split")
MISSPELT = 0.85  # similarity (difflib) from which a key counts as a misspelt known key, not as the user's own
OTHER_NAMES = {  # their names in other data sets
    "prompt": ("question", "input", "query", "text", "instruction", "context", "problem"),
    "answer": ("target", "output", "label", "completion", "response", "solution", "gold"),
}


def read_prompts(sources: Sequence[Path], form: str) -> list[Item]:
    """Read files of `prompt` and `answer`, and optionally `id`, `question_id` and `split`; other keys are kept.

    Without `id` an item is named by its file and line (json: entry); without `question_id`, items with the same prompt
    are one question. A `split` applies to all items of its question. Empty lines are skipped.

    Args:
        form: `jsonl` (an object per line), `json` (a list of objects) or `csv` (a first row of names, then an item per
            row; tab-separated in a .tsv file).
    Returns:
        the items in the order of the files; `split` is None if the files do not set it.
    Raises:
        HeadAtlasError: file, line or entry, what is wrong, what to do.
    """
    at, sign = (": entry ", "#") if form == "json" else (":", ":")
    items = [
        _item(entry, f"{path}{at}{number}", f"{name}{sign}{number}")
        for path, name in short_names(sources)
        for number, entry in FORMATS[form].entries(path)
    ]
    if not items:
        raise HeadAtlasError(f"{listed(sources)}: no items; give {FORMATS[form].EXPECTED}")
    refuse_repeats((item.id, item.where, "the id") for item in items)
    refuse_repeats(((item.prompt, item.answer), item.where, "the prompt and answer") for item in items)
    _spread_splits(items)
    return items


def _item(entry: object, where: str, name: str) -> Item:
    _check_names(entry, where)
    prompt = text_of(entry, "prompt", where)
    return Item(
        id=text_of(entry, "id", where, number=True) if "id" in entry else name,
        question_id=text_of(entry, "question_id", where, number=True) if "question_id" in entry else text_id(prompt),
        split=_split(entry, where),
        prompt=prompt,
        answer=text_of(entry, "answer", where, number=True),
        where=where,
        extra=plain({key: value for key, value in entry.items() if key not in REQUIRED + OPTIONAL}, where),
    )


def _split(entry: dict, where: str) -> str | None:
    split = entry.get("split")
    if split not in (None, "score", "validate"):
        given = f"'{shorten(split)}'" if isinstance(split, str) else kind(split)
        raise HeadAtlasError(f"{where}: split must be score or validate, got {given}")
    return split


def _check_names(entry: object, where: str) -> None:
    """Require prompt and answer; refuse a key that looks like a misspelt known one, and accept all others."""
    require_object(entry, where, REQUIRED)
    missing = [key for key in REQUIRED if key not in entry]
    renamed = {key: next((name for name in entry if name.lower() in OTHER_NAMES[key]), None) for key in missing}
    if missing and all(renamed.values()):
        ways = " and ".join(f"'{shorten(name)}' to {key}" for key, name in renamed.items())
        are = "is" if len(missing) == 1 else "are"
        raise HeadAtlasError(f"{where}: {' and '.join(missing)} {are} missing; rename the key {ways}")
    absent = [key for key in REQUIRED + OPTIONAL if key not in entry]
    known = (*REQUIRED, *OPTIONAL, *(name for names in OTHER_NAMES.values() for name in names))
    for key in (key for key in entry if key not in known):
        if difflib.get_close_matches(key.lower(), absent, n=1, cutoff=0.6 if missing else MISSPELT):
            raise HeadAtlasError(f"{where}: unknown key '{shorten(key)}'; {nearest(key, absent)}")
    require_keys(entry, where, REQUIRED)


def _spread_splits(items: list[Item]) -> None:
    """Give all items of a question the split that one of them names."""
    named: dict[str, Item] = {}
    for item in (item for item in items if item.split is not None):
        other = named.setdefault(item.question_id, item)
        if other.split != item.split:
            raise HeadAtlasError(
                f"{item.where}: has split {item.split}, but {other.where} of the same question "
                f"'{shorten(item.question_id)}' has split {other.split}; give a question one split"
            )
    for item in items:
        item.split = named[item.question_id].split if item.question_id in named else None
