"""The items that the page shows: texts, and how well the model does them with all its heads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headatlas.errors import HeadAtlasError
from headatlas.evidence.capability import read_answers
from headatlas.files.attention import Attention
from headatlas.tasks.items import read_items

TEXTS = ("id", "prompt", "answer")


def shown_items(items: Path, trace: Path, rows: Sequence[int], attention: Attention | None = None) -> list[dict]:
    """The items of a task on the page.

    Args:
        items: the task's items file; trace: its trace; rows: which of the score items, in order.
        attention: on these items.

    Returns:
        for each item `id`, `prompt`, `answer`, `score` (nats, on the clean model), `correct`; with attention also
        `tokens`, `start` and `rows` (see `headatlas.files.attention`).

    Raises:
        HeadAtlasError: the two files do not hold the same items.
    """
    listed = read_items(items)["items"]
    score, correct, _ = read_answers(trace)
    if len(listed) != len(score):
        differ = f"holds {len(score)} items, but {items} {len(listed)}"
        raise HeadAtlasError(f"{trace}: {differ}; delete the trace and run again")
    place = np.flatnonzero([item["split"] == "score" for item in listed])
    tokens = attention.items if attention else [{}] * len(rows)
    return [
        {name: listed[index][name] for name in TEXTS}
        | {"score": float(score[index]), "correct": bool(correct[index])}
        | known
        for index, known in zip(place[list(rows)], tokens, strict=True)
    ]
