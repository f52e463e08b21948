"""Tokenised items as right-padded batches, and answer log-probabilities read off logits.

Right padding keeps a token's index equal to its position, so that no family needs position ids and a causal
model never sees the padding.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from headatlas.jobs.cli import log

MEMORY_SHARE = 0.8  # of a GPU's memory may be taken; the rest is for what the allocator cannot fit together
FIRST_SHARE = 8  # the batch on which memory is measured has this part of the tokens


@dataclass(frozen=True)
class Batch:
    """Items side by side.

    `rows` [item]: index of each in the task's list. `input_ids`, `attention_mask` [item, position].
    `positions` [item, answer]: index of each answer position (the position whose next token is an answer token),
    `targets` [item, answer]: that next token, `answer_mask` [item, answer]: False where an answer is shorter.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    targets: Tensor
    answer_mask: Tensor

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def repeat(self, copies: int) -> "Batch":
        """Every item `copies` times, the copies of an item side by side."""
        return Batch(*(getattr(self, name).repeat_interleave(copies, dim=0) for name in self.__dataclass_fields__))

    @property
    def keep(self) -> int:
        """How many of the last positions hold all answer positions."""
        return self.input_ids.shape[1] - int(self.positions.min())

    def gather(self, values: Tensor) -> Tensor:
        """[item, position, ...] -> [item, answer, ...], the values at the answer positions."""
        items = torch.arange(len(self), device=values.device)[:, None]
        return values[items, self.positions.to(values.device)]

    def gather_kept(self, values: Tensor) -> Tensor:
        """As `gather`, from values of the last `keep` positions only."""
        items = torch.arange(len(self), device=values.device)[:, None]
        first = self.input_ids.shape[1] - values.shape[1]
        return values[items, self.positions.to(values.device) - first]


def collate(items: list[dict], rows: list[int], length: int | None = None) -> Batch:
    """The items at `rows` as one batch, padded to the longest (or to `length`).

    The last answer token is only ever a target: nothing is predicted from it, so it is not fed.
    """
    chosen = [items[row] for row in rows]
    sequences = [item["prompt_ids"] + item["answer_ids"][:-1] for item in chosen]
    length = max(length or 0, *map(len, sequences))
    width = max(len(item["answer_ids"]) for item in chosen)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros_like(ids)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    targets = torch.zeros_like(positions)
    answer_mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, (item, sequence) in enumerate(zip(chosen, sequences, strict=True)):
        answer = torch.tensor(item["answer_ids"])
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
        steps = torch.arange(width).clamp_max(len(answer) - 1)
        positions[row] = len(item["prompt_ids"]) - 1 + steps
        targets[row] = answer[steps]
        answer_mask[row, : len(answer)] = True
    return Batch(torch.tensor(rows), ids, mask, positions, targets, answer_mask)


def sequence_length(item: dict) -> int:
    """Tokens of an item that the model reads: nothing is predicted from the last answer token, so it is not fed."""
    return len(item["prompt_ids"]) + len(item["answer_ids"]) - 1


def batches(
    items: list[dict], batch_tokens: int | Callable[[], int], rows: list[int] | None = None, padded: bool = True
) -> Iterator[Batch]:
    """Batches of items of similar length, each of at most `batch_tokens` padded tokens (always one item).

    Args:
        batch_tokens: a number, or a function that is asked anew while each batch is put together.
        padded: False lets only items of the same length share a batch.
    """
    most = batch_tokens if callable(batch_tokens) else lambda: batch_tokens
    rows = list(range(len(items))) if rows is None else rows
    lengths = {row: sequence_length(items[row]) for row in rows}
    group: list[int] = []
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        full = group and lengths[row] * (len(group) + 1) > most()
        if full or (group and not padded and lengths[row] != lengths[group[0]]):
            yield collate(items, group)
            group = []
        group.append(row)
    if group:
        yield collate(items, group)


def answer_log_probability(logits: Tensor, targets: Tensor, answer_mask: Tensor) -> Tensor:
    """Mean over an answer's tokens of its log-probability, in nats, in float32.

    Args:
        logits: [..., answer, token] at the answer positions; `targets`, `answer_mask`: [..., answer].

    Returns:
        [...]: one number per item, so that long answers get no extra weight in a mean over items.
    """
    scores = logits.float()
    chosen = scores.gather(-1, targets[..., None]).squeeze(-1) - scores.logsumexp(-1)
    return (chosen * answer_mask).sum(-1) / answer_mask.sum(-1)


def exact_match(logits: Tensor, targets: Tensor, answer_mask: Tensor) -> Tensor:
    """[...] bool: whether every answer token is the most probable one, given the true tokens before it."""
    return ((logits.argmax(-1) == targets) | ~answer_mask).all(-1)


def run_batches(
    work: Callable[[list[int], int], None],
    items: list[dict],
    batch_tokens: int,
    devices: Iterable[torch.device],
    rows: list[int] | None = None,
    copies: int = 1,
    padded: bool = True,
) -> None:
    """Call `work(rows, tokens)` on batches of items until all are done, with as many tokens a pass as memory holds.

    Args:
        batch_tokens: the most `tokens` of one pass; devices: where the model is (see `Budget`).
        rows: the items to work on, all if None; copies: how many copies of a batch's items fill a pass.
        padded: whether items of different lengths may share a batch.
    """
    budget = Budget(batch_tokens, devices)
    for batch in batches(items, lambda: max(1, budget.tokens // copies), rows, padded):
        with budget.measured(batch.input_ids.numel()):
            halve_on_out_of_memory(partial(work, tokens=budget.tokens), batch.rows.tolist())


class Budget:
    """The tokens of one pass: as many as are asked for, but on GPUs no more than their memory holds.

    A first pass of few tokens is measured; what it takes beyond the weights grows with the tokens at most. From the
    size of the memory and not from what is free of it just now, and by halves: so a rerun makes the same batches.
    """

    def __init__(self, most: int, devices: Iterable[torch.device]):
        self._most = most
        self._unknown = sorted({device for device in devices if device.type == "cuda"}, key=str)
        self.tokens = max(1, most // FIRST_SHARE) if self._unknown else most

    @contextmanager
    def measured(self, padded: int) -> Iterator[None]:
        """Around the work on a batch of so many padded tokens: the first time, sets `tokens` by what it took."""
        devices, self._unknown = self._unknown, []
        held = [torch.cuda.memory_allocated(device) for device in devices]
        for device in devices:
            torch.cuda.reset_peak_memory_stats(device)
        yield
        if devices:
            first, self.tokens = max(self.tokens, padded), self._most
            for device, before in zip(devices, held, strict=True):
                room = MEMORY_SHARE * torch.cuda.mem_get_info(device)[1] - before
                each = (torch.cuda.max_memory_allocated(device) - before) / first
                while self.tokens > 1 and each * self.tokens > room:
                    self.tokens //= 2
            log.info("tokens of one pass: %d", self.tokens)


def halve_on_out_of_memory(work: Callable[[list], None], units: list) -> None:
    """Call `work(units)`; on out-of-memory, again with each half of the units, down to one."""
    try:
        work(units)
        return
    except RuntimeError as error:
        if not should_reduce_batch_size(error) or len(units) == 1:
            raise
    clear_device_cache(garbage_collection=True)
    half = len(units) // 2
    log.info("out of memory with a batch of %d: going on with %d", len(units), half)
    halve_on_out_of_memory(work, units[:half])
    halve_on_out_of_memory(work, units[half:])
