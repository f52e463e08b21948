"""Whether an answer that a model wrote is right, by comparing it with the reference. Standard library only."""

import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal

from headatlas.errors import HeadAtlasError
from headatlas.wording import shorten

QUOTES, STOPS = "\"'`“”‘’«»", ".,;:!?…"
# Digits, in groups of three after commas or not; decimals; a sign that does not join two words or numbers.
NUMBER = re.compile(r"(?:(?<![\w.)])[-+−])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\d)\.\d+)")


def exact(text: str, reference: str) -> bool:
    """Whether both are the same text, apart from case, white space, quotes around it and punctuation at its end."""
    return plain(text) == plain(reference)


def number(text: str, reference: str) -> bool:
    """Whether the last number of each is the same: "12.0" is 12, "1,024" is 1024. Numbers in words do not count."""
    found, wanted = last_number(text), last_number(reference)
    return found is not None and found == wanted


def first_word(text: str, reference: str) -> bool:
    """Whether the first word of each is the same, apart from case, quotes and punctuation."""
    return _first(text) == _first(reference)


CHECKS: dict[str, Callable[[str, str], bool]] = {"exact": exact, "number": number, "first_word": first_word}


def is_right(text: str, reference: str, check: str) -> bool:
    """Whether a text is right by one of `CHECKS`; an empty one never is."""
    return bool(text.strip()) and CHECKS[check](text, reference)


def require_checkable(reference: str, check: str, where: str) -> None:
    """Refuse a reference that no text can equal.

    Raises:
        HeadAtlasError: the check is `number`, and there is none.
    """
    if check == "number" and last_number(reference) is None:
        raise HeadAtlasError(
            f"{where}: the answer '{shorten(reference)}' holds no number in digits, so check: number is never right; "
            "take exact or first_word for this task"
        )


def plain(text: str) -> str:
    """A text without case, repeated white space, quotes around it and punctuation at its end."""
    bare = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    before = None
    while bare != before:
        before, bare = bare, bare.strip(QUOTES + " ").rstrip(STOPS + " ")
    return bare or text.strip()  # of punctuation alone, all of it


def last_number(text: str) -> Decimal | None:
    """The last number in digits of a text; None if there is none."""
    found = NUMBER.findall(unicodedata.normalize("NFKC", text))
    return Decimal(found[-1].replace(",", "").replace("−", "-")) if found else None


def _first(text: str) -> str:
    words = text.split()
    return plain(words[0]) if words else ""
