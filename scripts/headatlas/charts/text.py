"""How wide a text is, and where its lines break. Knows Arial's widths, nothing of figures."""

from collections.abc import Iterable

LINE = 1.3  # distance between lines, of the font size


def text_width(text: str, size: float) -> float:
    """Width of one line in pixels, on the safe side, in the default font (as wide as Arial)."""
    return size * sum(_em(letter) for letter in text)


def widest(texts: Iterable[str], size: float) -> float:
    """Width of the widest line in pixels; 0 without lines."""
    return max((text_width(text, size) for text in texts), default=0.0)


def wrap(text: str, size: float, width: float) -> list[str]:
    """Lines of `text` that fit in `width` pixels, broken at spaces; line breaks in the text are kept."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in filter(None, paragraph.split(" ")):  # a no-break space holds its words together
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
