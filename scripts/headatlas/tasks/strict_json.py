"""JSON that keeps numbers as written and refuses repeated keys. Standard library only."""

import json

from headatlas.errors import HeadAtlasError
from headatlas.wording import shorten

DEEPEST = 20  # levels of lists and objects in an unused key
TOO_DEEP = "is nested too deeply for a task file"
HALF_CHARACTER = "has half a character (a lone \\ud800 to \\udfff); fix it"


class Number(str):
    """A JSON number as written in the file: 44 stays 44, 196.50 stays 196.50."""


def parse(text: str, where: str) -> object:
    """The value of a JSON text, with each number as a `Number`.

    Raises:
        HeadAtlasError: what is wrong, after `where`.
    """
    try:
        return json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_once,
        )
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if "\n" in text.strip() else ""
        raise HeadAtlasError(f"{where}{line}: is not valid JSON: {error.msg} (column {error.colno}); fix it") from None
    except ValueError as error:
        raise HeadAtlasError(f"{where}: {error}") from None
    except RecursionError:
        raise HeadAtlasError(f"{where}: {TOO_DEEP}") from None


def plain(value: object, where: str) -> object:
    """A parsed value with numbers converted back, ready to be written.

    Raises:
        HeadAtlasError: it is nested too deeply, or holds a lone surrogate.
    """
    if _depth(value) > DEEPEST:
        raise HeadAtlasError(f"{where}: {TOO_DEEP}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HeadAtlasError(f"{where}: {HALF_CHARACTER}") from None
    return _with_numbers(value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number; give a number, or text in quotes")


def _once(pairs: list[tuple[str, object]]) -> dict:
    entry: dict = {}
    for key, value in pairs:
        if key in entry:
            raise ValueError(f"has the key '{shorten(key)}' twice; remove one")
        entry[key] = value
    return entry


def _depth(value: object) -> int:
    """Levels of lists and objects, counted up to one more than `DEEPEST`."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        parts = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level, depth = [part for inner in parts for part in inner], depth + 1
    return depth


def _with_numbers(value: object) -> object:
    if isinstance(value, Number):
        return json.loads(value)
    if isinstance(value, list):
        return [_with_numbers(part) for part in value]
    return {key: _with_numbers(part) for key, part in value.items()} if isinstance(value, dict) else value
