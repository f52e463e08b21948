"""Greedy continuations of prompts, many at once, while sets of heads output their baselines.

The keys and values of all positions read so far are kept, so each new token costs one position. Prompts of different
lengths share a batch, padded on the left, unless the model's numbers depend on that. Plain passes check the result.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.models.batches import halve_on_out_of_memory, run_batches
from headatlas.models.engine import TOLERANCE
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, edit_of_sets
from headatlas.models.replacement import Replacement
from headatlas.models.work import extremes, prompts_alone, sequence_length

COPIES = 8  # of a prompt, one for each set, that fill a pass


def write_greedily(
    model: HeadModel,
    items: list[dict],
    over: Callable[[list[int]], bool],
    batch_tokens: int,
    sets: Sequence[Heads] = ((),),
    table: np.ndarray | None = None,
    positions: str = "answer",
    advance: Callable[[int], None] = lambda _n: None,
) -> list[list[list[int]]]:
    """The most probable next token, again and again, for every prompt and set of heads.

    Args:
        items: `prompt_ids` of each, and `answer_ids` of as many tokens as there is room for.
        over: whether a text of these tokens has ended with the last of them.
        batch_tokens: the most positions that one pass holds, over all rows.
        sets: heads that output their baseline together; an empty set is the unedited model.
        table: [1, layer, head, d_head], the baseline; None where no set has heads.
        positions: where: `answer` is the last token of the prompt and every token written, `all` also the rest of the
            prompt.
        advance: called with the number of texts that were written; less than 0 where they are written anew.

    Returns:
        the tokens [item][set], the last of which ends the text or is the last there was room for.

    Raises:
        HeadAtlasError: the model returns no cache of the common kind, or differs with it from plain passes.
    """
    if model.cache_type is not DynamicCache:
        raise HeadAtlasError(
            f"model {model.name}: returns no DynamicCache of keys and values, with which answers are written here; use "
            "answers: reference and evidence.generated: false"
        )
    replaced = torch.zeros(1, *model.shape) if table is None else torch.from_numpy(np.ascontiguousarray(table))
    edits = partial(_edits, model, table=replaced)
    padded = not _padding_matters(model, items)
    for padding in dict.fromkeys((padded, False)):
        written = _write(model, items, over, batch_tokens, sets, edits, positions, padding, advance)
        difference = _largest_gap(model, items, sets, edits, positions, written)
        if difference <= TOLERANCE[model.kept_in]:
            return written
        advance(-len(items) * len(sets))
    raise HeadAtlasError(
        f"model {model.name}: tokens written with kept keys and values are not the most probable ones of plain passes "
        f"(logits differ by {difference:.2g} of their size); use answers: reference and evidence.generated: false"
    )


def _write(model, items, over, batch_tokens, sets, edits, positions, padded, advance) -> list[list[list[int]]]:
    """Write all texts, batch by batch."""
    written: list[list[list[int]]] = [[[] for _ in sets] for _ in items]

    def work(rows: list[int], tokens: int) -> None:
        most = max(1, tokens // (len(rows) * max(sequence_length(items[row]) for row in rows)))

        def write(part: list[int]) -> None:
            prompts, steps = [items[row]["prompt_ids"] for row in rows], len(items[rows[0]]["answer_ids"])
            chosen = [sets[index] for index in part]
            texts = iter(_continue(model, prompts, steps, over, chosen, edits, positions))
            for row in rows:
                for index in part:
                    written[row][index] = next(texts)
            advance(len(rows) * len(part))

        for start in range(0, len(sets), most):
            halve_on_out_of_memory(write, list(range(start, min(start + most, len(sets)))))

    # Items of one batch have room for equally many tokens (not ragged).
    copies, room = min(COPIES, len(sets)), model.room
    run_batches(work, items, batch_tokens, model.devices, copies=copies, padded=padded, ragged=False, room=room)
    return written


def _continue(
    model: HeadModel,
    prompts: list[list[int]],
    steps: int,
    over: Callable[[list[int]], bool],
    sets: list[Heads],
    edits: Callable,
    positions: str,
) -> list[list[int]]:
    """Write a text for every row; the sets of a prompt are rows side by side."""
    reader = Reader(model, prompts)
    edited = edits(sets, torch.ones(1, 1, dtype=torch.bool))
    texts: list[list[int]] = [[] for _ in range(len(prompts) * len(sets))]
    ended = [False] * len(texts)
    with torch.no_grad():
        if positions == "answer":  # all sets share what the prompt's first tokens left behind
            reader.read_all_but_last()
        reader.repeat(len(sets))
        with model.edit_head_outputs(edited):
            reader.read_all_but_last()
            for _ in range(steps):
                for row, token in enumerate(reader.next_tokens()):
                    if not ended[row]:
                        texts[row].append(token)
                        ended[row] = over(texts[row])
                if all(ended):
                    break
    return texts


class Reader:
    """Prompts, padded on the left to one length, that the model reads and then continues token by token.

    Args:
        width: to how many tokens they are padded; None: to the longest.
    """

    def __init__(self, model: HeadModel, prompts: list[list[int]], width: int | None = None):
        self.model = model
        width = width or max(map(len, prompts))
        padded = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
        seen = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self.unread, self.mask = (torch.tensor(values, device=model.device) for values in (padded, seen))  # [row, pos.]
        self.cache = DynamicCache(config=model.model.config)
        self.takes_positions = "position_ids" in inspect.signature(model.model.forward).parameters

    def read_all_but_last(self) -> None:
        """Read what is unread, up to the last token, from which the next one follows."""
        if self.unread.shape[1] > 1:
            self._read(self.unread[:, :-1], self.mask[:, :-1])
            self.unread = self.unread[:, -1:]

    def repeat(self, copies: int) -> None:
        """Each row so many times, side by side, with what was read."""
        if copies == 1:
            return
        rows = torch.arange(len(self.unread), device=self.unread.device).repeat_interleave(copies)
        if self.cache.get_seq_length():
            self.cache.reorder_cache(rows)
        self.unread, self.mask = self.unread[rows], self.mask[rows]

    def next_logits(self) -> Tensor:
        """[row, token]: read all that is unread."""
        return self._read(self.unread, self.mask)

    def next_tokens(self) -> list[int]:
        """The most probable next token of each row, which is then the unread one."""
        self.unread = self.next_logits().argmax(-1, keepdim=True)
        self.mask = torch.cat([self.mask, torch.ones_like(self.unread)], dim=1)
        return self.unread[:, 0].tolist()

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        options = {self.model.cache_name: self.cache, "use_cache": True}
        if self.takes_positions:  # families without them count the tokens of the mask
            options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        return self.model.logits(ids, mask, keep=1, **options)[:, -1].to(ids.device)


def _edits(model: HeadModel, sets: Sequence[Heads], where: Tensor, table: Tensor) -> dict[int, Callable]:
    """By layer, the edit of rows side by side; where: [1, position] bool."""
    replacement = Replacement(lambda layer: table[:, layer, None], where)
    layers = {layer for heads in sets for layer, _ in heads}
    return {layer: edit_of_sets(layer, list(sets), replacement, model.n_heads) for layer in layers}


def _padding_matters(model: HeadModel, items: list[dict]) -> bool:
    """Whether prompts of different lengths must not share a batch: tested on the shortest, padded to the longest."""
    prompt, other = (items[row]["prompt_ids"] for row in extremes(prompts_alone(items)))
    if len(prompt) == len(other):
        return False
    with torch.no_grad():
        readers = [Reader(model, [prompt], width) for width in (None, len(other))]
        for reader in readers:
            reader.read_all_but_last()
        alone, padded = (reader.next_logits() for reader in readers)
    matters = not bool((alone - padded).abs().max() <= TOLERANCE[model.arithmetic] * (1 + alone.abs().max()))
    if matters:
        log.info("prompts of different lengths do not share a batch: this model's numbers depend on the padding")
    return matters


def _largest_gap(model, items, sets, edits, positions, written) -> float:
    """How far written tokens are below the most probable ones, by plain passes over the shortest and the longest
    prompt, for the first and the last set: the largest difference of logits, relative to 1 + the largest logit."""
    gaps = []
    for row in dict.fromkeys(extremes(prompts_alone(items))):
        for index in dict.fromkeys((0, len(sets) - 1)):
            prompt, text = items[row]["prompt_ids"], written[row][index]
            ids = torch.tensor([prompt + text[:-1]], device=model.device)
            where = torch.arange(ids.shape[1])[None] >= (0 if positions == "all" else len(prompt) - 1)
            with torch.no_grad(), model.edit_head_outputs(edits([sets[index]], where)):
                logits = model.logits(ids, torch.ones_like(ids), keep=len(text))[0].float()
            chosen = logits.gather(1, torch.tensor(text, device=logits.device)[:, None])[:, 0]
            gaps.append(float(((logits.max(1).values - chosen) / (1 + logits.abs().max())).max()))
    log.info("check: texts of %d rows by plain passes, largest difference %.2g", len(gaps), max(gaps))
    return float(np.max(gaps))  # NaN where any is
