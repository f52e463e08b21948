"""Surface control: how well a bag of words, which sees no activations, tells the tasks apart; numpy only.

A probe that does no better may rank heads by the format of answers, not by what the task asks for.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from headatlas.errors import HeadAtlasError
from headatlas.stats.head_statistics import head_statistics

_WORD = re.compile(r"\w+|[^\w\s]")
_PENALTY = 1.0  # of the summed loss: half the squared weights, as scikit-learn's C = 1
_TOLERANCE = 1e-4  # largest gradient of the mean loss at which the fit stops, as in scikit-learn
_MOST_STEPS = 2000
_MOST_WORDS = 5000


INPUTS = {
    "prompt": lambda item: item["prompt"],
    "answer": lambda item: item["answer"],
    "both": lambda item: f"{item['prompt']} {item['answer']}",
}
ALL_TASKS = "(all)"  # cannot be the key of a task


def surface_control(
    items: Mapping[str, list[dict]],
    *,
    folds: int,
    confidence: float,
    seed: int,
    matched: bool,
) -> list[dict]:
    """Accuracy of telling the tasks apart by the words of each of `INPUTS`, on held-out questions.

    Args:
        items: by task; each has `prompt`, `answer` and `question_id`.
        folds: parts of the questions; each is held out once.
        matched: use only items matched in format, see `matched_format`.

    Returns:
        task (or `ALL_TASKS`), input, accuracy, majority (share of the largest task), ci_low and ci_high (over
        questions, as for heads), n_items.

    Raises:
        HeadAtlasError: `matched` is true, but no answer format occurs in every task.
    """
    rows = [item for of_task in items.values() for item in of_task]
    task = np.repeat(np.arange(len(items)), [len(of_task) for of_task in items.values()])
    if matched:
        chosen = matched_format([row["answer"] for row in rows], task, seed)
        rows, task = [rows[i] for i in chosen], task[chosen]
    question = np.unique([row["question_id"] for row in rows], return_inverse=True)[1]
    groups = {name: task == i for i, name in enumerate(items)} | {ALL_TASKS: task >= 0}
    majority = float(np.bincount(task).max() / len(task))
    found = []
    for name, text in INPUTS.items():
        predicted = predict_held_out([text(row) for row in rows], task, question, folds, seed)
        right = (predicted == task).astype(float)[:, None]
        for key, group in groups.items():
            s = head_statistics(right[group], question[group], confidence=confidence)
            row = {"task": key, "input": name, "accuracy": float(s.effect[0]), "majority": majority}
            low, high = np.clip([s.ci_low[0], s.ci_high[0]], 0, 1)  # a t may reach beyond
            row |= {"ci_low": float(low), "ci_high": float(high), "n_items": s.n_items}
            found.append(row)
    return found


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    return _WORD.findall(text.lower())


def bags_of_words(texts: Sequence[str]) -> np.ndarray:
    """Which words each text holds, among the `_MOST_WORDS` most frequent words: float32 [item, word].

    Rows have length 1, or 0 if a text shares no word with another.
    """
    bags = [set(words(text)) for text in texts]
    common = Counter(word for bag in bags for word in sorted(bag)).most_common(_MOST_WORDS)
    column = {word: i for i, (word, count) in enumerate(common) if count > 1}
    found = np.zeros((len(bags), max(1, len(column))), dtype=np.float32)
    for row, bag in zip(found, bags, strict=True):
        row[[column[word] for word in bag if word in column]] = 1
    return found / np.maximum(1, np.linalg.norm(found, axis=1, keepdims=True))


def fit(bags: np.ndarray, task: np.ndarray, n_tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression with an L2 penalty on the weights, but not on the intercepts.

    Nesterov's accelerated gradient with restarts (O'Donoghue and Candes 2015) reaches the unique optimum.

    Args:
        bags: [item, word], rows no longer than 1; task: [item] classes from 0.

    Returns:
        weights [word, task], intercepts [task].
    """
    n, inputs = len(task), np.column_stack([bags, np.ones(len(bags), dtype=np.float32)])
    penalty = np.append(np.full(bags.shape[1], _PENALTY, np.float32), np.float32(0))[:, None]
    truth = np.eye(n_tasks, dtype=np.float32)[task]
    # With the intercept's 1 rows are no longer than sqrt(2), so the curvature is at most 2 / 2 an item.
    step = np.float32(1 / (n + _PENALTY))
    weights = ahead = np.zeros((inputs.shape[1], n_tasks), dtype=np.float32)
    momentum = 1.0
    for _ in range(_MOST_STEPS):
        slope = inputs.T @ (_softmax(inputs @ ahead) - truth) + penalty * ahead
        if np.abs(slope).max() < _TOLERANCE * n:
            break
        following = ahead - step * slope
        move, weights = following - weights, following
        grown = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        uphill = (slope * move).sum() > 0
        carry, momentum = (0.0, 1.0) if uphill else ((momentum - 1) / grown, grown)
        ahead = weights + np.float32(carry) * move
    return ahead[:-1], ahead[-1]


def predict_held_out(texts: Sequence[str], task: np.ndarray, question: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Predict each item's task by a fit that has seen no item of its question: [item] classes.

    Args:
        texts, task (classes from 0), question: [item]; folds: parts of the questions; each is held out once.
    """
    _, question = np.unique(question, return_inverse=True)
    n_questions = question.max() + 1
    fold = (np.random.default_rng(np.random.SeedSequence(seed)).permutation(n_questions) % folds)[question]
    bags, n_tasks = bags_of_words(texts), int(task.max()) + 1
    predicted = np.zeros(len(task), dtype=np.int64)
    for held_out in np.unique(fold):
        chosen = fold == held_out
        weights, intercepts = fit(bags[~chosen], task[~chosen], n_tasks)
        predicted[chosen] = (bags[chosen] @ weights + intercepts).argmax(axis=1)
    return predicted


def answer_format(answer: str) -> tuple[int, bool]:
    """The format of an answer: its number of words and punctuation marks, and whether it has a digit."""
    return len(words(answer)), any(c.isdigit() for c in answer)


def matched_format(answers: Sequence[str], task: np.ndarray, seed: int) -> np.ndarray:
    """Choose items at random so that every task has equally many of each `answer_format`.

    For each format, every task keeps as many items as the task with the fewest has.

    Args:
        answers: [item]; task: [item] classes from 0.

    Returns:
        ascending indices of the chosen items.

    Raises:
        HeadAtlasError: no format occurs in all tasks.
    """
    formats = [answer_format(answer) for answer in answers]
    cells: dict[tuple, list[list[int]]] = {}
    for item in np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(answers)):
        cells.setdefault(formats[item], [[] for _ in range(task.max() + 1)])[task[item]].append(int(item))
    chosen = [i for cell in cells.values() for of_task in cell for i in of_task[: min(map(len, cell))]]
    if not chosen:
        raise HeadAtlasError("no answer format (number of words, digits) occurs in every task: leave `matched` off")
    return np.array(sorted(chosen), dtype=np.int64)


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
