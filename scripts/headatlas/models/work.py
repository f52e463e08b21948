"""Counts the work of passes over tokenised items, before they run; no torch.

The unit is a layer position: one layer at one position of one pass. A pass over an item of S tokens through L layers is
L S of them. A backward pass counts like a forward pass: it needs the gradients of activations only, not of weights.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What passes compute.

    Attributes:
        whole: layer positions of whole passes, over all tokens of an item.
        edited: layer positions of edited rows, which share the clean pass of their item.
        logits: positions at which the output layer computes logits.
        context: sum over all layer positions of the number of tokens in the item, to which attention attends at most.
    """

    whole: int = 0
    edited: int = 0
    logits: int = 0
    context: int = 0

    @property
    def layers(self) -> int:
        """All layer positions."""
        return self.whole + self.edited

    def __add__(self, other: "Work") -> "Work":
        """The work of both."""
        return Work(*(getattr(self, name) + getattr(other, name) for name in self.__match_args__))

    def __mul__(self, times: int) -> "Work":
        """The same work so many times."""
        return Work(*(getattr(self, name) * times for name in self.__match_args__))


def total(parts: Iterable[Work]) -> Work:
    """The sum of several."""
    return sum(parts, Work())


def sequence_length(item: dict) -> int:
    """Tokens of an item that the model reads: nothing is predicted from the last answer token, so it is not fed."""
    return len(item["prompt_ids"]) + len(item["answer_ids"]) - 1


def longest(items: Iterable[dict]) -> int:
    """Tokens of the longest item that the model reads; 0 without items."""
    return max(map(sequence_length, items), default=0)


def extremes(items: Sequence[dict], among: Sequence[int] | None = None) -> tuple[int, int]:
    """Indices of the shortest and the longest item, `among` these or all."""
    order = sorted(range(len(items)) if among is None else among, key=lambda row: (sequence_length(items[row]), row))
    return order[0], order[-1]


def prompts_alone(items: Iterable[dict]) -> list[dict]:
    """The items without their answers: passes over them end with the prompt."""
    return [{"prompt_ids": item["prompt_ids"], "answer_ids": [0]} for item in items]


def whole_pass(item: dict, n_layers: int, logits: int = 0, length: int | None = None) -> Work:
    """One pass over an item.

    Args:
        logits: positions whose logits it computes; length: to how many tokens the item is padded.
    """
    length = length or sequence_length(item)
    return Work(whole=length * n_layers, logits=logits, context=length * length * n_layers)


def edited_rows(item: dict, rows: int, layers_above: int, positions: str) -> Work:
    """Edited copies of an item, each recomputed from the layer of its first edit on.

    Args:
        rows: number of copies; layers_above: layers that are recomputed, summed over the copies.
        positions: `answer` recomputes the answer positions only, `all` every position.
    """
    length, width = sequence_length(item), len(item["answer_ids"])
    at = width if positions == "answer" else length
    return Work(edited=layers_above * at, logits=rows * scored_positions(item), context=layers_above * at * length)


def scored_positions(item: dict) -> int:
    """Positions whose logits the metric needs: of a margin only the last of the answer."""
    return 1 if "foil_id" in item else len(item["answer_ids"])
