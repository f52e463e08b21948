"""Tasks: from their files to the items that are scored. Knows nothing about models and tokens. Standard library only.

Items are in the seeded order of their questions, so that the first n of a split are a sample of whole questions.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic, log
from headatlas.tasks.cogqa import cogqa_items, read_cogqa
from headatlas.tasks.item import Item
from headatlas.tasks.partners import require_partners
from headatlas.tasks.prompts import read_prompts
from headatlas.tasks.spaces import join_prompts
from headatlas.tasks.splits import SPLITS, hashed, require_splits, split_questions
from headatlas.wording import shorten


@dataclass
class Task:
    """A task's items as read, each with its split, and the number of subquestions whose label is not a task."""

    items: list[Item]
    other_labels: Counter[str]


# --- a task ------------------------------------------------------------------------------------------


def read_task(settings: dict, sources: Sequence[Path]) -> Task:
    """Read a task's files, check every line, and assign each item to a split.

    Args:
        settings: `task`, `format`, `join`, `seed`, `validate_fraction`, for cogqa also `skill` and `context`;
            `partners`: those of `PARTNERS` that every item must have.
        sources: the task's files; their order does not matter.
    Raises:
        HeadAtlasError: file, line (or question and subquestion), what is wrong, what to do.
    """
    seed, fraction = settings["seed"], settings["validate_fraction"]
    if settings["format"] != "cogqa":
        items, other_labels = read_prompts(sources, settings["format"]), Counter()
        join_prompts(items, settings["join"])
        weights = {item.question_id: Counter() for item in items if item.split is None}
    else:
        questions = read_cogqa(sources)
        items = cogqa_items(questions, settings["skill"], settings["context"])
        weights = {question.id: Counter(question.labels) for question in questions}
        other_labels = Counter(label for question in questions for label in question.other_labels)
        for label, count in sorted(other_labels.items()):
            log.warning("%d subquestions have the label '%s', which is not a task; left out", count, shorten(label))
    require_partners(items, settings.get("partners", ()), settings["task"])
    splits = split_questions(weights, fraction, seed)
    for item in items:
        item.split = item.split or splits[item.question_id]
    require_splits(items, settings["task"], fraction)
    items.sort(key=lambda item: hashed(seed, "order", item.question_id))  # stable: a question's items keep their order
    return Task(items, other_labels)


# --- samples -----------------------------------------------------------------------------------------


def sample(items: list[Item], max_items: int | None) -> list[Item]:
    """Take the first questions of each split and cut only the last; each split keeps its share.

    A larger sample contains every smaller one.
    """
    if max_items is None or len(items) <= max_items:
        return items
    validate = sum(item.split == "validate" for item in items)
    quota = round(max_items * validate / len(items))
    if 0 < validate < len(items):
        quota = min(max(quota, 1), max_items - 1)
    return _first(items, {"score": max_items - quota, "validate": quota}, lambda item: item.split)


def balance(contents: Sequence[dict]) -> list[dict]:
    """Cut every task to the number of items of the smallest, in each split.

    Args:
        contents: items files of all tasks of a model. Returns:
        the same, in the same order, with fewer items and their `counts` to match.
    """
    quota = {split: min((content["counts"][split] for content in contents), default=0) for split in SPLITS}
    balanced = []
    for content in contents:
        kept = _first(content["items"], quota, lambda item: item["split"])
        cut = len(content["items"]) - len(kept)
        counts = content["counts"] | quota | {"not_sampled": content["counts"]["not_sampled"] + cut}
        balanced.append(content | {"counts": counts, "items": kept})
    return balanced


def _first(items: list, quota: dict[str, int], split_of: Callable[[object], str]) -> list:
    """Keep the first items of each split, in their order."""
    left = Counter(quota)
    kept = []
    for item in items:
        left[split_of(item)] -= 1
        if left[split_of(item)] >= 0:
            kept.append(item)
    return kept


# --- items files -------------------------------------------------------------------------------------


def items_content(name: str, task: Task, n_short: int, kept: list[Item]) -> dict:
    """Return the content of an items file: the `kept` items of a `task`; `n_short` of its items are not too long.

    `counts`: `read` items of the task in its files = `too_long` + `not_sampled` + `score` + `validate`;
    `other_label` subquestions (cogqa) have a label that is not a task and are not among the `read`.
    """
    splits = Counter(item.split for item in kept)
    counts = {
        "read": len(task.items),
        "other_label": task.other_labels.total(),
        "too_long": len(task.items) - n_short,
        "not_sampled": n_short - len(kept),
        **{split: splits[split] for split in SPLITS},
    }
    items = [_content(item) for item in kept]
    return {"task": name, "counts": counts, "items": items}


def _content(item: Item) -> dict:
    content = {key: value for key, value in asdict(item).items() if key != "where"}
    unused = {"foil_id": None, "counterfactual_ids": None, "same_answer_ids": None, "extra": {}}
    return {key: value for key, value in content.items() if key not in unused or value != unused[key]}


def write_items(path: Path, content: dict) -> None:
    """Write an items file: JSON, one item per line, atomically."""
    lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in content["items"])
    head = json.dumps({"task": content["task"], "counts": content["counts"]}, ensure_ascii=False)
    with atomic(path) as draft:
        draft.write_text(f'{head[:-1]}, "items": [\n{lines}\n]}}\n', encoding="utf-8")


def read_items(path: Path) -> dict:
    """Read an items file: `task`, `counts`, `items` (see `items_content`).

    Raises:
        HeadAtlasError: it is not a complete items file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        content["task"], content["counts"], content["items"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HeadAtlasError(f"{path}: is not a complete items file; delete it and run again") from None
    return content


def read_split(path: Path, split: str) -> list[dict]:
    """Read the items of one split, `score` or `validate`, of an items file, in their order."""
    return split_items(read_items(path), split)


def split_items(content: dict, split: str) -> list[dict]:
    """Return a task's items of one split, `score` or `validate`, in their order."""
    return [item for item in content["items"] if item["split"] == split]
