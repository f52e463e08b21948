"""Answers that the model wrote itself: where a text ends, which is right, and the items whose answers they are.

Knows tokens and texts, no models. Standard library only.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.tasks.checks import is_right, require_checkable
from headatlas.tasks.splits import SPLITS
from headatlas.tasks.tokens import Tokeniser

ENDS = ("end of sequence", "stop", "length")


@dataclass(frozen=True)
class Written:
    """An answer as written: its text, its tokens, and what ended it (one of `ENDS`)."""

    text: str
    token_ids: list[int]
    end: str


@dataclass(frozen=True)
class StopRule:
    """Where an answer ends: at a token with which the model ends texts, or where one of the strings `stop` begins.

    Attributes:
        decode: from token ids to text, without special tokens.
    """

    decode: Callable[[list[int]], str]
    end_tokens: frozenset[int]
    stop: Sequence[str] = ()

    @classmethod
    def of(cls, tokeniser: Tokeniser, end_tokens: frozenset[int], stop: Sequence[str]) -> "StopRule":
        """With the texts of a tokenizer."""
        return cls(partial(tokeniser.decode, special=False), end_tokens, stop)

    def over(self, ids: list[int]) -> bool:
        """Whether the text ends with the last of these tokens, which was just written."""
        return ids[-1] in self.end_tokens or self._place(self.decode(ids)) is not None

    def answer(self, ids: list[int]) -> Written:
        """Cut what was written at its end.

        A token that holds the beginning of `stop` is not among the tokens of the answer, although its part before
        `stop` belongs to the text.
        """
        ended = ids[-1:] and ids[-1] in self.end_tokens
        ids = ids[:-1] if ended else ids
        text = self.decode(ids)
        place = self._place(text)
        if place is None:
            return Written(text, ids, "end of sequence" if ended else "length")
        text = text[:place]
        whole = max(n for n in range(len(ids) + 1) if text.startswith(self.decode(ids[:n])))
        return Written(text, ids[:whole], "stop")

    def _place(self, text: str) -> int | None:
        places = [text.find(stop) for stop in self.stop]
        return min((place for place in places if place >= 0), default=None)


def with_room(items: Sequence[dict], max_tokens: int, longest: int | None) -> list[dict]:
    """The prompts of items, each with room for an answer of `max_tokens`, or of as many as fit `longest` with it.

    Returns:
        items with `prompt_ids`, and as many `answer_ids` as there is room for, so that their work can be counted.
    """
    return [
        {"prompt_ids": prompt, "answer_ids": [0] * min(max_tokens, (longest or math.inf) - len(prompt))}
        for prompt in (item["prompt_ids"] for item in items)
    ]


def written_content(content: dict, answers: Sequence[Written]) -> dict:
    """What the model wrote for each item of an items file, in its order: the content of an answers file.

    Its `counts` are of answers by what ended them.
    """
    ends = Counter(answer.end for answer in answers)
    items = zip(content["items"], answers, strict=True)
    return {
        "task": content["task"],
        "counts": {end: ends[end] for end in ENDS},
        "items": [{"id": item["id"]} | asdict(answer) for item, answer in items],
    }


def judged(content: dict, written: dict, check: str) -> dict:
    """What the model wrote, as `written_content`, beside the items of an items file, and whether it is right.

    Returns:
        the content of an answers file whose items have `id`, `question_id`, `split`, `reference`, `text`, `token_ids`,
        `end` and `correct`; `counts` are of those that are `correct` and those that are `empty`.

    Raises:
        HeadAtlasError: as `checks.require_checkable`.
    """
    found = []
    for item, answer in zip(content["items"], written["items"], strict=True):
        require_checkable(item["answer"], check, f"task {content['task']}, item {item['id']}")
        known = {"id": item["id"], "question_id": item["question_id"], "split": item["split"]}
        known |= {"reference": item["answer"]} | {key: answer[key] for key in ("text", "token_ids", "end")}
        found.append(known | {"correct": is_right(answer["text"], item["answer"], check)})
    counts = {"correct": sum(one["correct"] for one in found), "empty": sum(not _wrote(one) for one in found)}
    return {"task": content["task"], "counts": counts, "items": found}


def answered(content: dict, answers: dict) -> dict:
    """An items file whose answers the model wrote; items without one are left out, and their number logged.

    Args:
        answers: as `judged`.

    Returns:
        the content, with `reference` (the file's answer) and `right` in each item, and `empty` among its counts.

    Raises:
        HeadAtlasError: a split has no item left.
    """
    kept = [
        item
        | {"answer": answer["text"], "answer_ids": answer["token_ids"]}
        | {"reference": item["answer"], "right": answer["correct"]}
        for item, answer in zip(content["items"], answers["items"], strict=True)
        if _wrote(answer)
    ]
    empty, task = answers["counts"]["empty"], content["task"]
    splits = Counter(item["split"] for item in kept)
    if empty:
        log.warning("%d of %d items are left out: the model wrote no answer to them", empty, len(content["items"]))
    for split in SPLITS:
        if content["counts"][split] and not splits[split]:
            raise HeadAtlasError(
                f"task {task}: the model wrote no answer to any of the {content['counts'][split]} {split} items (each "
                "text is empty up to its end); change generation.stop or the prompts, or set answers: reference"
            )
    return content | {
        "counts": content["counts"] | {"empty": empty} | {split: splits[split] for split in SPLITS},
        "items": kept,
    }


def _wrote(answer: dict) -> bool:
    """Whether there is an answer with a token of its own, which can be scored."""
    return bool(answer["text"].strip() and answer["token_ids"])
