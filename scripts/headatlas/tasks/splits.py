"""Splits: which questions are scored, and which are held out for validation. Standard library only.

A *question* is never divided: all its items belong to one split.
"""

from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.tasks.item import Item

SPLITS = ("score", "validate")


def require_splits(items: Iterable[Item], task: str, validate_fraction: float) -> None:
    """Refuse a task without items to score, or without items to validate on if some are wanted.

    Raises:
        HeadAtlasError: names the task and what to do.
    """
    questions = {item.question_id: item.split for item in items}
    missing = {"score", *(["validate"] if validate_fraction > 0 else [])} - set(questions.values())
    if missing:
        raise HeadAtlasError(
            f"tasks.{task}: no question is left to {' and to '.join(sorted(missing))} on (the task has "
            f"{len(questions)}); add questions, or set items.validate_fraction to 0"
        )


def warn_of_one_question(items: Iterable[Item], task: str) -> None:
    """Warn about splits with a single question: without spread over questions there is no interval or test."""
    counts = Counter({item.question_id: item.split for item in items}.values())
    for split in (split for split in SPLITS if counts[split] == 1):
        log.warning(
            "tasks.%s: only one question to %s on, too few for intervals and p-values; add questions (or raise "
            "max_items if it cuts them)", task, split,
        )  # fmt: skip


def split_questions(weights: dict[str, Counter[str]], fraction: float, seed: int) -> dict[str, str]:
    """Divide questions between the splits so that the items of every label come as close to the fraction as possible.

    The questions are ranked by a hash of seed and question; the first `fraction` of them go to `validate`. Then
    questions switch sides one at a time, each time the one that brings the labels' shares closest to the fraction (of
    equals, the one nearest to the cut), until no move helps. So the split depends on the seed and the questions, but
    not on their order.

    Args:
        weights: for each question, its number of items by label.
        fraction: share of questions, and of each label's items, for `validate`, in [0, 1). If it is above 0, two
            questions are enough for one in each split.
    Returns:
        for each question, `score` or `validate`.
    """
    ranked = sorted(weights, key=lambda question: hashed(seed, "split", question))
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
    """How many of `total` should be in `validate`: the fraction, but at least one on either side."""
    return min(max(fraction * total, 1), total - 1) if fraction > 0 and total > 1 else fraction * total


def _gain(count: dict[str, int], leaves: bool, excess: dict[str, float], totals: Counter[str]) -> float:
    """How much the sum of the labels' squared excesses, each over its total, falls if the question moves."""
    sign = -1 if leaves else 1
    return sum(-n * (2 * sign * excess[label] + n) / totals[label] for label, n in count.items())


def hashed(seed: int, use: str, text: str) -> str:
    """A hash that orders texts: random, but the same for the same seed and use."""
    return sha256(f"{seed}\0{use}\0{text}".encode()).hexdigest()
