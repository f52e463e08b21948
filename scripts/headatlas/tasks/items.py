"""Tasks: from files of prompts and answers to the items that are scored, split by question.

Knows nothing of models and tokens. Standard library only.

A *question* is what must not be torn apart: items of one question never stand in both splits. The order of
items is the seeded order of their questions, so that the first n of a split are a sample of whole questions.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic, log
from headatlas.tasks.formats import Item, cogqa_items, move_spaces, read_cogqa, read_prompts, spaces_at_the_end
from headatlas.wording import shorten

SPLITS = ("score", "validate")
# Keys of an item's line that some settings need, and the settings that do.
PARTNERS = {
    "foil": "metric: margin",
    "counterfactual": "baseline: counterfactual",
    "same_answer": "evidence.same_answer",
}


@dataclass
class Task:
    """A task's items as read, each with its split, and how many subquestions had a label that is no task."""

    items: list[Item]
    other_labels: Counter[str]


# --- a task ------------------------------------------------------------------------------------------


def read_task(settings: dict, sources: Sequence[Path]) -> Task:
    """Read a task's files, check every line, and give each item its split.

    Args:
        settings: `task`, `format`, `join`, `seed`, `validate_fraction`, for cogqa `skill` and `context`; `partners`:
            which of `PARTNERS` every item must have.
        sources: the task's files; their order does not matter.
    Raises:
        HeadAtlasError: file, line (or question and subquestion), what is wrong, what to do.
    """
    seed, fraction = settings["seed"], settings["validate_fraction"]
    if settings["format"] != "cogqa":
        items, other_labels = read_prompts(sources, settings["format"]), Counter()
        _join(items, settings["join"])
        weights = {item.question_id: Counter() for item in items if item.split is None}
    else:
        questions = read_cogqa(sources)
        items = cogqa_items(questions, settings["skill"], settings["context"])
        weights = {question.id: Counter(question.labels) for question in questions}
        other_labels = Counter(label for question in questions for label in question.other_labels)
        for label, count in sorted(other_labels.items()):
            log.warning("%d subquestions are labelled '%s', which is no task; left out", count, shorten(label))
    require_partners(items, settings.get("partners", ()), settings["task"])
    splits = split_questions(weights, fraction, seed)
    for item in items:
        item.split = item.split or splits[item.question_id]
    require_splits(items, settings["task"], fraction)
    items.sort(key=lambda item: _hash(seed, "order", item.question_id))  # stable: a question's items keep their order
    return Task(items, other_labels)


def _join(items: list[Item], join: str | None) -> None:
    """Treat the prompts that end in a space as `join` says, and warn of them; None where no answer follows a prompt."""
    told = {
        "auto": "the space was moved to the front of the answer (join: auto)",
        "none": "the answer is tokenised without it, which most models find unlikely (join: auto would move it)",
    }
    if join is None:
        return
    for file, count in spaces_at_the_end(items).items():
        log.warning("%s: %d prompts end in a space; %s", file, count, told[join])
    if join == "auto":
        move_spaces(items)


def require_partners(items: Iterable[Item], partners: Sequence[str], task: str) -> None:
    """Refuse an item without a text that a setting needs.

    Raises:
        HeadAtlasError: names the task, the item, the key and the setting.
    """
    for item in items:
        for key in partners:
            text = item.extra.get(key)
            if not isinstance(text, str) or not text:
                raise HeadAtlasError(
                    f"tasks.{task}: {item.where}: has no '{key}' (a text), which {PARTNERS[key]} needs of every item; "
                    "add it to all items, or change that setting"
                )


def require_splits(items: Iterable[Item], task: str, validate_fraction: float) -> None:
    """Refuse a task that has no items to score, or none to validate though some were asked for.

    Raises:
        HeadAtlasError: names the task and what to do.
    """
    questions = {item.question_id: item.split for item in items}
    missing = {"score", *(["validate"] if validate_fraction > 0 else [])} - set(questions.values())
    if missing:
        raise HeadAtlasError(
            f"tasks.{task}: no question is left to {' and to '.join(sorted(missing))} on, the task has "
            f"{len(questions)}; add questions, or set items.validate_fraction to 0"
        )


def warn_of_one_question(items: Iterable[Item], task: str) -> None:
    """Say which splits hold one question only: there is no spread over questions to make an interval or a test of."""
    counts = Counter({item.question_id: item.split for item in items}.values())
    for split in (split for split in SPLITS if counts[split] == 1):
        log.warning(
            "tasks.%s: only one question to %s on, of which no interval and no p-value can be made; add questions (or "
            "raise max_items where it cuts them)", task, split,
        )  # fmt: skip


def split_questions(weights: dict[str, Counter[str]], fraction: float, seed: int) -> dict[str, str]:
    """Divide questions between the splits so that every label's items meet the fraction as closely as can be.

    The questions are ranked by a hash of seed and question; the first `fraction` of them go to `validate`.
    Then one question at a time changes sides, the one that brings the labels' shares nearest to the fraction
    (of equals, the one next to the cut), until none does. So the split depends on the seed and on the
    questions, but not on their order.

    Args:
        weights: for each question, how many items of which label it has.
        fraction: of questions and of each label's items, for `validate`, in [0, 1). Where it is above 0, two
            questions are enough for one in each split.
    Returns:
        for each question, `score` or `validate`.
    """
    ranked = sorted(weights, key=lambda question: _hash(seed, "split", question))
    counts = {q: {**weights[q], "": 1} for q in ranked}  # "" counts the questions themselves
    totals = Counter({"": 0})
    for count in counts.values():
        totals.update(count)
    goals = {label: _goal(total, fraction) for label, total in totals.items()}
    cut = round(goals[""])
    validate = set(ranked[:cut])
    excess = {label: sum(counts[q].get(label, 0) for q in validate) - goal for label, goal in goals.items()}
    order = sorted(range(len(ranked)), key=lambda rank: abs(rank - cut + 0.5))
    while True:
        moves = (_gain(counts[ranked[rank]], ranked[rank] in validate, excess, totals) for rank in order)
        gain, place = max(((gain, -place) for place, gain in enumerate(moves)), default=(0.0, 0))
        if gain < 1e-9:
            return {question: "validate" if question in validate else "score" for question in ranked}
        question = ranked[order[-place]]
        sign = -1 if question in validate else 1
        validate ^= {question}
        for label, count in counts[question].items():
            excess[label] += sign * count


def _goal(total: int, fraction: float) -> float:
    """How many of `total` should be in `validate`: the fraction, but one at least on either side."""
    return min(max(fraction * total, 1), total - 1) if fraction > 0 and total > 1 else fraction * total


def _gain(count: dict[str, int], leaves: bool, excess: dict[str, float], totals: Counter[str]) -> float:
    """By how much the labels' squared excess, each over its total, falls in sum if the question moves."""
    sign = -1 if leaves else 1
    return sum(-n * (2 * sign * excess[label] + n) / totals[label] for label, n in count.items())


def _hash(seed: int, use: str, text: str) -> str:
    return sha256(f"{seed}\0{use}\0{text}".encode()).hexdigest()


# --- samples -----------------------------------------------------------------------------------------


def sample(items: list[Item], max_items: int | None) -> list[Item]:
    """Take the first whole questions of each split, only the last one cut; each split keeps its share.

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
        contents: of the items files of all tasks of a model.
    Returns:
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
    """Return what an items file holds. Of the `task` as read, `n_short` items were not too long.

    `counts`: `read` items of the task in its files = `too_long` + `not_sampled` + `score` + `validate`;
    `other_label` subquestions (cogqa) had a label that is no task and are not among the `read`.
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
    """Write an items file: JSON, one item a line, atomically."""
    lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in content["items"])
    head = json.dumps({"task": content["task"], "counts": content["counts"]}, ensure_ascii=False)
    with atomic(path) as draft:
        draft.write_text(f'{head[:-1]}, "items": [\n{lines}\n]}}\n', encoding="utf-8")


def read_items(path: Path) -> dict:
    """Read an items file: `task`, `counts`, `items` (see `items_content`).

    Raises:
        HeadAtlasError: it is not a whole items file.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        content["task"], content["counts"], content["items"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise HeadAtlasError(f"{path}: is not a whole items file; delete it and run again") from None
    return content


def split_items(content: dict, split: str) -> list[dict]:
    """Return a task's items of one split, `score` or `validate`, in their order."""
    return [item for item in content["items"] if item["split"] == split]
