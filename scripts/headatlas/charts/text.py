"""Widths of texts and line breaks. Knows Arial's widths, but no figures."""

from collections.abc import Iterable

LINE = 1.3  # distance between lines, relative to the font size


def text_width(text: str, size: float) -> float:
    """Conservative width of one line in pixels, in the default font (as wide as Arial)."""
    return size * sum(_em(letter) for letter in text)


def widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest line in pixels; 0 without lines."""
    return max((text_width(text, size) for text in texts), default=0.0)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Break `text` at spaces into lines that fit in `width` pixels; keep its line breaks."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in filter(None, paragraph.split(" ")):  # a no-break space keeps its words together
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _em(letter: str) -> float:
    if letter in "ijltfIr.,:;'|!()[]-/ ":
        return 0.34
    if letter in "mwMW@%" or letter > "\u2e80":
        return 1.0
    return 0.74 if letter.isupper() else 0.57
