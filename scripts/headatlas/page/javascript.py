"""Values as JavaScript files. A page that is opened from a disk may load scripts, but not JSON.

A file calls `HeadAtlas.receive(name, value)`; workflow/page/data.js has the other end.
"""

import base64
import json
import math
from pathlib import Path

import numpy as np

PACKED = ("float32", "uint16", "uint8")  # that workflow/page/numbers.js unpacks


def write_script(folder: Path, name: str, value: object) -> None:
    """Write `value` to `{name}.js` in `folder`; `name` may begin with folders.

    Raises:
        ValueError: the value holds a number that JSON cannot (see `plain`).
    """
    path = folder / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"HeadAtlas.receive({literal(name)}, {literal(value)});\n", encoding="ascii")


def literal(value: object) -> str:
    """A value as JavaScript: ASCII, and without `<`, so that no text in it can end a script or begin a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def packed(values: np.ndarray) -> str:
    """Numbers as base64 of little-endian values: half as long as their digits, and read at once.

    Args:
        values: of one of the types `PACKED`; flattened.
    """
    kind = np.dtype(values.dtype).name
    if kind not in PACKED:
        raise ValueError(f"{kind} cannot be packed; one of {', '.join(PACKED)} can")
    return base64.b64encode(np.ascontiguousarray(values).astype(f"<{values.dtype.str[1:]}").tobytes()).decode("ascii")


def plain(row: dict[str, object]) -> dict[str, object]:
    """A row of a table for JSON: numbers that are not finite become None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
