"""Texts besides prompt and answer that some settings require for every item. Standard library only."""

from collections.abc import Iterable, Sequence

from headatlas.errors import HeadAtlasError
from headatlas.tasks.item import Item

# Keys of an item's line, and the settings that require them.
PARTNERS = {
    "foil": "metric: margin",
    "counterfactual": "baseline: counterfactual",
    "same_answer": "evidence.same_answer",
}


def require_partners(items: Iterable[Item], partners: Sequence[str], task: str) -> None:
    """Refuse an item that lacks a text required by a setting.

    Raises:
        HeadAtlasError: names the task, the item, the key and the setting.
    """
    for item in items:
        for key in partners:
            text = item.extra.get(key)
            if not isinstance(text, str) or not text:
                raise HeadAtlasError(
                    f"tasks.{task}: {item.where}: has no '{key}' (a text), which {PARTNERS[key]} requires for every "
                    "item; add it to all items, or change that setting"
                )
