"""How names, lists and values are worded in messages. Standard library only."""

import difflib
from collections.abc import Iterable


def either(names: Iterable[str]) -> str:
    """Join names as "a, b or c"."""
    *first, last = [*names] or ["something else"]
    return f"{', '.join(first)} or {last}" if first else last


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that was probably meant, or list the known names."""
    known = list(known)
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(known)}" if known else "there are none"


def shorten(text: str, length: int = 80) -> str:
    """Return `text` on one line, printable, and no longer than `length` characters."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[: length + 1])
    return text if len(text) <= length else text[: length - 3] + "..."
