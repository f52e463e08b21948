"""Checks shared by the entries of all formats. Standard library only."""

from collections.abc import Iterable
from hashlib import sha256

from headatlas.errors import HeadAtlasError
from headatlas.tasks.strict_json import HALF_CHARACTER, Number
from headatlas.wording import nearest, shorten


def require_object(entry: object, where: str, required: tuple[str, ...]) -> None:
    """Refuse an entry that is not an object."""
    if not isinstance(entry, dict):
        *first, last = required
        raise HeadAtlasError(f"{where}: must be a JSON object with {', '.join(first)} and {last}")


def require_keys(entry: dict, where: str, required: tuple[str, ...]) -> None:
    """Refuse an entry that lacks a key."""
    for key in required:
        if key not in entry:
            *first, last = required
            raise HeadAtlasError(f"{where}: {key} is missing; every entry needs {', '.join(first)} and {last}")


def refuse_other_keys(entry: dict, where: str, known: tuple[str, ...]) -> None:
    """Refuse an entry with an unknown key."""
    for key in entry:
        if key not in known:
            raise HeadAtlasError(f"{where}: unknown key '{shorten(key)}'; {nearest(key, known)}")


def text_of(entry: dict, key: str, where: str, number: bool = False) -> str:
    """The text of a field; with `number`, a JSON number counts as text.

    Raises:
        HeadAtlasError: it is not text, is empty, or holds a lone surrogate.
    """
    value = entry[key]
    if not isinstance(value, str) or (isinstance(value, Number) and not number):
        raise HeadAtlasError(f"{where}: {key} must be text{' or a number' * number}, got {kind(value)}")
    if not value.strip():
        raise HeadAtlasError(f"{where}: {key} is empty; fill it in, or remove the entry")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HeadAtlasError(f"{where}: {key} {HALF_CHARACTER}") from None
    return str(value)


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    names = {Number: "a number", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "text")


def refuse_repeats(entries: Iterable[tuple[object, str, str]]) -> None:
    """Refuse a value that occurs twice.

    Args:
        entries: value, location, and the name of the value.
    """
    first: dict[object, str] = {}
    for value, where, what in entries:
        if value in first:
            raise HeadAtlasError(f"{where}: repeats {what} of {first[value]}; remove one")
        first[value] = where


def text_id(text: str) -> str:
    """A short hash of a text."""
    return sha256(text.encode()).hexdigest()[:12]
