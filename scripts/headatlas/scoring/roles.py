"""What each head does: where it attends, what it copies, what it writes towards the answer.

Scores of attention patterns on sequences of random tokens repeated once, as for induction heads (Olsson et al. 2022,
arXiv 2209.11895), and on each task's items.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from headatlas.errors import HeadAtlasError
from headatlas.files.effects import question_index
from headatlas.files.roles import OF_ITEMS, SCORES, TOKENS, Roles, TaskRoles
from headatlas.jobs.cli import log
from headatlas.models.batches import Batch, collate, run_batches
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.patterns import read_patterns, watch_patterns, watch_values
from headatlas.models.replacement import corresponding
from headatlas.models.stream import Stream, UnknownStreamError, find_stream
from headatlas.scoring.direct import direct_effects, promoted_tokens, written
from headatlas.scoring.work import LENGTH, SEQUENCES

SHORTEST = 4  # with fewer, a previous token can be the one to which induction points
NAMED = 5  # promoted and suppressed tokens of a head


def describe_heads(
    model: HeadModel,
    tasks: dict[str, list[dict]],
    seed: int,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
) -> Roles:
    """All role scores of a model's heads.

    Args:
        tasks: by name, tokenised items of the score split; seed: of the random sequences.
        batch_tokens: the most padded tokens of one pass.
        advance: called with the number of sequences and items done.

    Raises:
        HeadAtlasError: the model's context is too short, or its patterns or direct effects cannot be told.
    """
    stream, unknown = _stream(model)
    items = [item for each in tasks.values() for item in each]
    sequences, about = random_sequences(model, items, seed)
    run = partial(run_batches, batch_tokens=batch_tokens, devices=model.devices, room=model.room)
    scores = sequence_roles(model, stream, sequences, run, advance)
    found, total = {}, torch.zeros(model.shape)
    for task, chosen in tasks.items():
        found[task], weighted = task_roles(model, stream, chosen, run, advance)
        total += weighted
    nothing = torch.full((*model.shape[:2], NAMED), -1)
    tokens = promoted_tokens(stream, total / len(items), NAMED) if stream else (nothing, nothing)
    about = {"sequences": about, "unknown": unknown, "without_attention": model.layers_without_attention}
    named = dict(zip(TOKENS, (ids.numpy() for ids in tokens), strict=True))
    return Roles(scores, named, found, about)


def _stream(model: HeadModel) -> tuple[Stream | None, str | None]:
    """The model's residual stream, or why it is not known."""
    try:
        return find_stream(model), None
    except UnknownStreamError as error:
        log.warning("model %s: no direct effects, copying and promoted tokens of its heads: %s", model.name, error)
        return None, str(error)


# --- random sequences -------------------------------------------------------------------------------------------------


def random_sequences(model: HeadModel, items: Sequence[dict], seed: int) -> tuple[list[dict], dict]:
    """Sequences of distinct random tokens, repeated once, behind the token with which all prompts begin, if one does.

    Returns:
        them as items, and how they were made: `count`, `length` (tokens before the repeat), `seed`, `prefix` (ids).
    """
    vocabulary = model.model.get_input_embeddings().weight.shape[0]
    starts = {item["prompt_ids"][0] for item in items}
    prefix = [*starts] if len(starts) == 1 else []
    config = model.model.config.get_text_config()
    context = getattr(config, "max_position_embeddings", None) or 2 * LENGTH + 1
    length = min(LENGTH, vocabulary, (context - len(prefix)) // 2)
    if length < SHORTEST:
        raise HeadAtlasError(
            f"model {model.name}: {context} positions and {vocabulary} tokens leave no room for {SHORTEST} random "
            "tokens repeated once; set evidence.roles to false"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(vocabulary, generator=generator)[:length].tolist() for _ in range(SEQUENCES)]
    made = [{"prompt_ids": [*prefix, *tokens, *tokens], "answer_ids": [tokens[0]]} for tokens in drawn]
    return made, {"count": SEQUENCES, "length": length, "seed": seed, "prefix": prefix}


def sequence_roles(
    model: HeadModel,
    stream: Stream | None,
    sequences: list[dict],
    run: Callable,
    advance: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Role scores on repeated sequences [layer, head] by name, means over queries and sequences.

    Queries are the tokens of the repeat but the first. `previous_token`, `duplicate_token`, `induction`: weight on the
    token before, on the same token's first occurrence, on the token after that; `sink`: on the first position of all;
    `entropy` of the weights, nats; `copying`: see `copied`. NaN in layers without attention.
    """
    width = len(sequences[0]["prompt_ids"])
    length = width // 2
    queries = torch.arange(width - length + 1, width)
    total = torch.zeros(len(SCORES), *model.shape[:2], dtype=torch.float64)

    def work(rows: list[int], tokens: int) -> None:
        batch = collate(sequences, rows).to(model.device)
        copies = torch.full(model.shape[:2], torch.nan)

        def weights(layer: int, weights: Tensor) -> None:
            total[:-1, layer] += torch.stack(pattern_scores(weights, queries, length)).sum(1).cpu()

        at = queries.expand(len(rows), -1)
        if stream is None or any(attention and attention.between for attention in model.attentions):
            read_patterns(model, batch, weights, at)
        else:
            repeat = batch.input_ids[:, -length:]
            readers = _readers(stream, repeat)
            with watch_values(model, lambda layer, values: _copied(stream, layer, values, readers, copies)):
                read_patterns(model, batch, weights, at)
        total[-1] += len(rows) * copies
        advance(len(rows))

    run(work, sequences)
    means = total / len(sequences)
    means[:, model.layers_without_attention] = torch.nan
    return dict(zip(SCORES, means.float().numpy(), strict=True))


def pattern_scores(weights: Tensor, queries: Tensor, length: int) -> list[Tensor]:
    """The scores of `SCORES` but the last, each [item, head], means over queries.

    Args:
        weights: [item, head, query, key]; queries: [query], their positions; length: of what is repeated.
    """
    places = (queries - 1, queries - length + 1, queries - length, torch.zeros_like(queries))
    each = torch.arange(len(queries))
    on = [weights[:, :, each, place].double().mean(-1) for place in places]
    return [*on, entropy(weights).double().mean(-1)]


def entropy(weights: Tensor) -> Tensor:
    """[..., key] -> [...], nats."""
    return torch.special.entr(weights).sum(-1)


def _readers(stream: Stream, tokens: Tensor) -> Tensor:
    """[item, token, hidden]: what in the stream raises the logit of each token, over the scale of the final norm."""

    def own(logits: Tensor) -> Tensor:
        return logits.gather(-1, ids[:, None]).squeeze(-1)

    found = []
    for ids in tokens:
        normed = torch.zeros(len(ids), len(stream.final.weight), device=ids.device)
        found.append(stream.final.transposed(stream.readers(normed, own)[0]))
    return torch.stack(found)


def _copied(stream: Stream, layer: int, values: Tensor, readers: Tensor, copies: Tensor) -> None:
    """Write the copying scores of a layer into `copies` [layer, head]; leave them if its values are no head's width."""
    n_heads, d_head = stream.model.n_heads, stream.model.d_head
    if values.shape[-1] == d_head and n_heads % values.shape[1] == 0:
        of_repeat = values[:, :, -readers.shape[1] :].repeat_interleave(n_heads // values.shape[1], dim=1)
        copies[layer] = copied(written(stream, layer, of_repeat.transpose(1, 2)), readers).cpu()


def copied(outputs: Tensor, readers: Tensor) -> Tensor:
    """[head]: share of tokens whose own logit a head, attending only to the token, raises more than any other's.

    After the copy score of Wang et al. 2022 (arXiv 2211.00593), which asks for the five highest logits of the whole
    vocabulary; here only the tokens of the sequence compete, so that by chance the share is 1 / their number.

    Args:
        outputs: [item, token, head, hidden], what a head writes then; readers: [item, token, hidden].
    """
    raised = torch.einsum("ithx,iox->ihto", outputs, readers.to(outputs.device))
    own = torch.arange(readers.shape[1], device=raised.device)
    return (raised.argmax(-1) == own).float().mean((0, 2))


# --- items ------------------------------------------------------------------------------------------------------------


def task_roles(
    model: HeadModel, stream: Stream | None, items: list[dict], run: Callable, advance: Callable[[int], None]
) -> tuple[TaskRoles, Tensor]:
    """Role scores on the items of one task, at their answer positions; and the sum of `Direct.weighted` over items.

    `direct`: `direct_effects`; `retrieval_score`: share of answer tokens at which the head's most attended token is one
    to copy (`copy_places`), as in Wu et al. 2024 (arXiv 2404.15574), with the true answer given; `span_mass`: weight on
    the tokens that the answer hangs on (`needed`), as in QRHead (arXiv 2506.09944); `sink`, `entropy`. NaN where an
    item has no such tokens, and in layers without attention.
    """
    scores = {name: np.full((len(items), *model.shape[:2]), np.nan, np.float32) for name in OF_ITEMS}
    total = torch.zeros(model.shape)

    def work(rows: list[int], tokens: int) -> None:
        batch = collate(items, rows).to(model.device)
        copy, span = (mask.to(model.device) for mask in _masks(items, rows, batch))

        def weights(layer: int, weights: Tensor) -> None:
            for name, found in answer_scores(weights, batch.answer_mask, copy, span).items():
                scores[name][rows, layer] = found.cpu().numpy()

        if stream is None:
            read_patterns(model, batch, weights, batch.positions)
        else:
            with watch_patterns(model, batch, weights, batch.positions):
                parts = direct_effects(stream, batch)
            scores["direct"][rows] = parts.of_items.cpu().numpy()
            total.add_(parts.weighted.sum(0).cpu())
        advance(len(rows))

    run(work, items, padded=not padding_matters(model, items))
    return TaskRoles(scores, question_index(items)), total


def answer_scores(weights: Tensor, answer_mask: Tensor, copy: Tensor, span: Tensor) -> dict[str, Tensor]:
    """Each [item, head], means over answer positions; NaN for items without a position to copy, or without a span.

    Args:
        weights: [item, head, answer, key]; answer_mask: [item, answer]; copy: [item, answer, key] bool, from where each
            answer token may be copied; span: [item, key] bool.
    """
    mask = answer_mask[:, None].to(weights)

    def mean(values: Tensor) -> Tensor:
        return (values * mask).sum(-1) / mask.sum(-1)

    best = weights.argmax(-1)
    copied = copy[:, None].expand(-1, weights.shape[1], -1, -1).gather(-1, best[..., None]).squeeze(-1)
    known = copy.any(-1).any(-1)[:, None], span.any(-1)[:, None]
    on_span = (weights * span[:, None, None]).sum(-1)
    return {
        "retrieval_score": mean(copied.to(weights)).masked_fill(~known[0], torch.nan),
        "span_mass": mean(on_span).masked_fill(~known[1], torch.nan),
        "sink": mean(weights[..., 0]),
        "entropy": mean(entropy(weights)),
    }


def _masks(items: list[dict], rows: list[int], batch: Batch) -> tuple[Tensor, Tensor]:
    """`copy` and `span` of a batch, as `answer_scores` takes them."""
    copy = torch.zeros(*batch.positions.shape, batch.input_ids.shape[1], dtype=torch.bool)
    span = torch.zeros(batch.input_ids.shape, dtype=torch.bool)
    for place, row in enumerate(rows):
        span[place, needed(items[row])] = True
        for start in copy_places(items[row]):
            for step in range(len(items[row]["answer_ids"])):
                copy[place, step, start + step] = True
    return copy, span


def needed(item: dict) -> list[int]:
    """The positions of the prompt that its counterfactual changes: on them the answer hangs. None if it has none."""
    if "counterfactual_ids" not in item:
        return []
    own, other = item["prompt_ids"], item["counterfactual_ids"]
    return [at for at, there in enumerate(corresponding(own, other)) if there < 0 or own[at] != other[there]]


def copy_places(item: dict) -> list[int]:
    """Where the answer stands in the prompt: first positions; of items with a counterfactual, only where it matters.

    It matters where the counterfactual changes a token of it.
    """
    prompt, answer = item["prompt_ids"], item["answer_ids"]
    starts = [at for at in range(len(prompt) - len(answer) + 1) if prompt[at : at + len(answer)] == answer]
    if "counterfactual_ids" not in item:
        return starts
    changed = set(needed(item))
    return [start for start in starts if changed & set(range(start, start + len(answer)))]
