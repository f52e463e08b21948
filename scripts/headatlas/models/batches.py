"""Tokenised items as right-padded batches, and answer log-probabilities read off logits.

Right padding keeps a token's index equal to its position, so that no family needs position ids and a causal
model never sees the padding.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import partial

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from headatlas.jobs.cli import log
from headatlas.models.allocations import Allocations
from headatlas.models.work import sequence_length

MEMORY_SHARE = 0.8  # of a GPU's memory may be taken; the rest is for what the allocator cannot fit together
HEAP_SHARE = 0.6  # of the memory for passes on the CPU may be tensors: the heap takes up to 1.6 times as much
FIRST_SHARE = 8  # on a GPU the batch on which memory is measured has this part of the tokens
FIRST_TOKENS = 256  # and on the CPU at most so many


@dataclass(frozen=True)
class Batch:
    """Items side by side.

    `rows` [item]: index of each in the task's list. `input_ids`, `attention_mask` [item, position].
    `positions` [item, answer]: index of each answer position (the position whose next token is an answer token),
    `targets` [item, answer]: that next token, `answer_mask` [item, answer]: False where an answer is shorter (its last
    position is repeated there). `foils` [item]: what might stand in the place of the last answer token instead; None
    where the metric is the answer's log-probability. `right` [item] bool: whether the answer, which the model wrote
    itself, is right; None for reference answers, which are.
    """

    rows: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    positions: Tensor
    targets: Tensor
    answer_mask: Tensor
    foils: Tensor | None = None
    right: Tensor | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return self._each(lambda values: values.to(device))

    def repeat(self, copies: int) -> "Batch":
        """Every item `copies` times, the copies of an item side by side."""
        return self._each(lambda values: values.repeat_interleave(copies, dim=0))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        fields = (getattr(self, field.name) for field in dataclass_fields(self))
        return Batch(*(None if values is None else change(values) for values in fields))

    def gather(self, values: Tensor) -> Tensor:
        """[item, position, ...] -> [item, answer, ...], the values at the answer positions."""
        items = torch.arange(len(self), device=values.device)[:, None]
        return values[items, self.positions.to(values.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """[item, answer, ...] -> [item, position, ...]: the values at the answer positions, zero elsewhere."""
        spread = values.new_zeros(len(values), self.input_ids.shape[1], *values.shape[2:])
        items = torch.arange(len(self), device=values.device)[:, None]
        spread[items, self.positions.to(values.device)] = values
        return spread

    def scored(self, values: Tensor) -> Tensor:
        """[item, answer, ...] -> the answer positions whose logits the metric needs: of a margin, each item's last."""
        if self.foils is None:
            return values
        items = torch.arange(len(self), device=values.device)
        return values[items, (self.answer_mask.sum(1) - 1).to(values.device)][:, None]


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
    foils, right = (_of_all(chosen, key) for key in ("foil_id", "right"))
    return Batch(torch.tensor(rows), ids, mask, positions, targets, answer_mask, foils, right)


def _of_all(items: list[dict], key: str) -> Tensor | None:
    """[item]: a value that all items of a task have, or none."""
    found = [item[key] for item in items if key in item]
    return torch.tensor(found) if found else None


def batches(
    items: list[dict],
    batch_tokens: int | Callable[[], int],
    rows: list[int] | None = None,
    padded: bool = True,
    ragged: bool = True,
) -> Iterator[Batch]:
    """Batches of items of similar length, longest first, each of at most `batch_tokens` padded tokens or of one item.

    Args:
        batch_tokens: a number, or a function that is asked anew while each batch is put together.
        padded: False lets only items of the same length share a batch; ragged: False only those whose answers are of
            the same length.
    """
    most = batch_tokens if callable(batch_tokens) else lambda: batch_tokens
    rows = list(range(len(items))) if rows is None else rows
    lengths = {row: sequence_length(items[row]) for row in rows}
    answers = {row: 0 if ragged else len(items[row]["answer_ids"]) for row in rows}
    group: list[int] = []
    for row in sorted(rows, key=lambda row: (answers[row], -lengths[row], row)):
        full = group and lengths[group[0]] * (len(group) + 1) > most()
        unlike = group and (answers[row] != answers[group[0]] or (not padded and lengths[row] != lengths[group[0]]))
        if full or unlike:
            yield collate(items, group)
            group = []
        group.append(row)
    if group:
        yield collate(items, group)


def score_answers(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """How well each answer does, in nats, and whether it is the model's choice: the one metric of all methods.

    `log_prob`: mean over the answer's tokens of their log-probability, so that long answers get no extra weight in a
    mean over items; right where every token is the most probable one, given the true tokens before it. An answer that
    the model wrote itself must also be right by the task's check: without heads it counts as long as it stays the same.
    `margin` (items with foils): log-probability of the answer's token less that of the foil's where the two part, which
    is the difference of their logits; right where it is above 0.

    Args:
        logits: [item, answer, token], or [item, row, answer, token] for edited rows; of a margin the last answer
            position is enough.

    Returns:
        [item] or [item, row]: score in float32, and bool.
    """
    rows = (slice(None), *[None] * (logits.ndim - 3))  # rows share their item's answer
    targets, mask = (values[rows].to(logits.device) for values in (batch.targets, batch.answer_mask))
    if batch.foils is None:
        scores = logits.float()
        chosen = scores.gather(-1, targets.expand(logits.shape[:-1])[..., None]).squeeze(-1) - scores.logsumexp(-1)
        mean = (chosen * mask).sum(-1) / mask.sum(-1)
        correct = ((logits.argmax(-1) == targets) | ~mask).all(-1)
        return mean, correct if batch.right is None else correct & batch.right[rows].to(logits.device)
    last = logits[..., -1, :].float()
    rival = batch.foils[rows].to(logits.device)
    answer, foil = (
        last.gather(-1, tokens.expand(last.shape[:-1])[..., None]).squeeze(-1) for tokens in (targets[..., -1], rival)
    )
    return answer - foil, answer > foil


def run_batches(
    work: Callable[[list[int], int], None],
    items: list[dict],
    batch_tokens: int,
    devices: Iterable[torch.device],
    rows: list[int] | None = None,
    copies: int = 1,
    padded: bool = True,
    ragged: bool = True,
    room: int | None = None,
) -> None:
    """Call `work(rows, tokens)` on batches of items until all are done, with as many tokens a pass as memory holds.

    Args:
        batch_tokens: the most `tokens` of one pass; devices: where the model is; room: see `Budget`.
        rows: the items to work on, all if None; copies: how many copies of a batch's items fill a pass.
        padded, ragged: as `batches`.
    """
    budget = Budget(batch_tokens, devices, room)
    for batch in batches(items, lambda: max(1, budget.tokens // copies), rows, padded, ragged):
        with budget.measured(batch.input_ids.numel(), copies):
            halve_on_out_of_memory(partial(work, tokens=budget.tokens), batch.rows.tolist())


class Budget:
    """The tokens of one pass: as many as are asked for, but no more than the memory of the model's devices holds.

    A first pass of few tokens, on the longest items, is measured; what it takes beyond the weights grows with the
    tokens at most. A rerun makes the same batches: on GPUs, whose peak is measured, tokens shrink by halves, from the
    size of the memory and not from what is free of it just now; on the CPU the tensors of the pass are counted.

    Args:
        most: the tokens that are asked for.
        room: on the CPU, bytes that a pass may take beyond the weights; None for no limit.
    """

    def __init__(self, most: int, devices: Iterable[torch.device], room: int | None = None):
        self._most = most
        self._gpus = sorted({device for device in devices if device.type == "cuda"}, key=str)
        self._room = None if self._gpus else room
        self._known = not self._gpus and room is None
        self.tokens = most
        if self._gpus:
            self.tokens = max(1, most // FIRST_SHARE)
        elif not self._known:
            self.tokens = min(most, FIRST_TOKENS)

    @contextmanager
    def measured(self, padded: int, copies: int = 1) -> Iterator[None]:
        """Around the work on a batch of so many padded tokens: the first time, sets `tokens` by what it took."""
        if self._known:
            yield
            return
        first = max(padded, min(self.tokens, padded * copies))
        if self._gpus:
            held = [torch.cuda.memory_allocated(device) for device in self._gpus]
            for device in self._gpus:
                torch.cuda.reset_peak_memory_stats(device)
            yield
            self.tokens = self._of_gpus(first, held)
        else:
            with Allocations() as taken:
                yield
            fit = HEAP_SHARE * self._room * first / max(taken.peak, 1)
            self.tokens = max(1, min(self._most, int(fit)))
        self._known = True
        log.info("tokens of one pass: %d", self.tokens)

    def _of_gpus(self, first: int, held: list[int]) -> int:
        """How many tokens the fullest GPU holds; so many as `first` were measured, above the bytes `held` before."""
        tokens = self._most
        for device, before in zip(self._gpus, held, strict=True):
            room = MEMORY_SHARE * torch.cuda.mem_get_info(device)[1] - before
            each = (torch.cuda.max_memory_allocated(device) - before) / first
            while tokens > 1 and each * tokens > room:
                tokens //= 2
        return tokens


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
