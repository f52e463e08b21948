"""One clean pass over a task's items: everything later rules need of the model, reduced on the device.

Per item: answer log-probability, correctness, mean head outputs; for the score split, the sums from which the
first-order effect of any head against any baseline follows (`effects.attribution_from_terms`). They are always
written, and for answer and all positions alike, so that nothing here depends on the methods' settings.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headatlas.errors import HeadAtlasError
from headatlas.files.effects import question_index
from headatlas.files.tensor_file import tensor_file
from headatlas.jobs.progress import progress
from headatlas.models.batches import (
    Batch,
    collate,
    run_batches,
    score_answers,
)
from headatlas.models.device import device_name
from headatlas.models.engine import padding_matters
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import on_sequence
from headatlas.models.replacement import PromptBaseline, Replacement, has_partners, partners

POSITIONS = ("answer", "all")


def trace_task(model: HeadModel, items: list[dict], path: Path, batch_tokens: int) -> None:
    """Write the trace of one task.

    Args:
        items: tokenised items of both splits (see `tasks.read_items`).
        batch_tokens: the most padded tokens of one forward pass.

    Tensors written: `score` [item] nats (`batches.score_answers`); `correct`, `validate` [item] 0/1; `question` [item];
    `head_output` [item, layer, head, d_head], mean over the answer positions; `mean_all` [layer, head, d_head],
    mean over score items of the mean over all positions; for score items in order and positions `answer`, `all`:
    `gradient_dot_output_{positions}` [item, layer, head] and `gradient_sum_{positions}` [item, layer, head, d_head].
    Where items have a counterfactual prompt, also `gradient_dot_change_{positions}` [item, layer, head]: the sum over
    positions of gradient . (head output - head output on the counterfactual prompt).
    Layers without attention (hybrid models) hold NaN; the metadata key `without_attention` lists them.

    Raises:
        HeadAtlasError: an item has a token that the model does not know.
    """
    _check_tokens(items, model.model.get_input_embeddings().weight.shape[0])
    validate = np.array([item["split"] == "validate" for item in items])
    score_rows = np.flatnonzero(~validate)
    shape = model.shape
    paired = has_partners(items, "counterfactual")
    counterfactual = PromptBaseline(partners(items, "counterfactual")) if paired else None
    layout: dict[str, tuple[str, tuple[int, ...]]] = {
        "score": ("float32", (len(items),)),
        "correct": ("uint8", (len(items),)),
        "validate": ("uint8", (len(items),)),
        "question": ("int64", (len(items),)),
        "head_output": ("float32", (len(items), *shape)),
        "mean_all": ("float32", shape),
    }
    for positions in POSITIONS:
        layout[f"gradient_dot_output_{positions}"] = ("float32", (len(score_rows), *shape[:2]))
        layout[f"gradient_sum_{positions}"] = ("float32", (len(score_rows), *shape))
        if paired:
            layout[f"gradient_dot_change_{positions}"] = ("float32", (len(score_rows), *shape[:2]))
    metadata = {"questions": json.dumps([item["question_id"] for item in items]), "device": device_name(model.device)}
    metadata["without_attention"] = json.dumps(model.layers_without_attention)
    padded = not padding_matters(model, items)
    place = {int(row): index for index, row in enumerate(score_rows)}
    total = np.zeros(shape, np.float64)
    with tensor_file(path, layout, metadata) as out, progress("trace", len(items), "items") as advance:
        out["validate"][:] = validate
        out["question"][:] = question_index(items)

        def run(rows: list[int], tokens: int, score: bool) -> None:
            batch = collate(items, rows).to(model.device)
            traced = trace_batch(model, batch, gradients=score, baseline=counterfactual)
            for name in ("score", "correct", "head_output"):
                out[name][rows] = traced[name].cpu().numpy()
            if score:
                np.add(total, traced["all_positions"].double().sum(0).cpu().numpy(), out=total)
                for name in (name for name in layout if name.startswith("gradient")):
                    out[name][[place[row] for row in rows]] = traced[name].cpu().numpy()
            advance(len(rows))

        for score, rows in ((True, score_rows), (False, np.flatnonzero(validate))):
            run_batches(
                partial(run, score=score),
                items,
                batch_tokens,
                model.devices,
                rows.tolist(),
                padded=padded,
                room=model.room,
            )
        out["mean_all"][:] = total / max(len(score_rows), 1)


def _check_tokens(items: list[dict], n_tokens: int) -> None:
    """On a GPU, a token beyond the embeddings would end the process with a page of assertions."""
    for item in items:
        largest = max(item["prompt_ids"] + item["answer_ids"])
        if largest >= n_tokens:
            raise HeadAtlasError(
                f"item {item['id']}: the tokenizer gives it the token {largest}, but the model knows only {n_tokens}; "
                "get tokenizer and weights of the same model"
            )


def trace_batch(
    model: HeadModel, batch: Batch, gradients: bool, baseline: PromptBaseline | None = None
) -> dict[str, Tensor]:
    """One forward pass (and one backward pass, if gradients are asked for) over a batch.

    Args:
        baseline: the other prompts to which the effects `gradient_dot_change_{positions}` refer, if they are wanted.

    Returns:
        `score`, `correct` [item]; `head_output` and `all_positions` [item, layer, head, d_head], means over
        the answer positions and over all; with gradients the terms of `trace_task`; all float32, NaN in layers
        without attention.
    """
    outputs: dict[int, Tensor] = {}

    def keep(layer: int):
        def edit(z: Tensor) -> Tensor:
            # The graph starts here: parameters carry no gradient, so nothing below the first layer's heads does.
            outputs[layer] = z if z.requires_grad or not gradients else z.detach().requires_grad_()
            return outputs[layer]

        return edit

    edits = {layer: keep(layer) for layer in model.attention_layers}
    with torch.set_grad_enabled(gradients), model.edit_head_outputs(edits):
        logits = model.logits(batch.input_ids, batch.attention_mask, batch.gather)
        score, correct = score_answers(logits, batch)
    layers = [outputs[layer] for layer in model.attention_layers]
    result = {
        "score": score.detach(),
        "correct": correct,
        "head_output": _over_layers(lambda z: position_sum(batch, z, "answer", mean=True), layers),
        "all_positions": _over_layers(lambda z: position_sum(batch, z, "all", mean=True), layers),
    }
    if gradients:
        slopes = torch.autograd.grad(score.sum(), layers)
        pairs = list(zip(layers, slopes, strict=True))
        for at in POSITIONS:
            result[f"gradient_sum_{at}"] = _over_layers(lambda g, at=at: position_sum(batch, g, at), slopes)
            result[f"gradient_dot_output_{at}"] = _over_layers(
                lambda pair, at=at: position_sum(batch, (pair[0].float() * pair[1].float()).sum(-1), at), pairs
            )
        replacements = baseline.at(model, batch, POSITIONS, range(model.n_layers)) if baseline else {}
        for at, replacement in replacements.items():
            result[f"gradient_dot_change_{at}"] = _slopes_to(
                batch, on_sequence(replacement, batch, at), at, dict(zip(model.attention_layers, pairs, strict=True))
            )
    return {name: value if value.ndim == 1 else model.over_layers(value) for name, value in result.items()}


def _slopes_to(
    batch: Batch, replacement: Replacement, positions: str, pairs: dict[int, tuple[Tensor, Tensor]]
) -> Tensor:
    """[item, layer, head]: sum over positions of gradient . (head output - replacement).

    Args:
        pairs: layer -> head outputs and gradients [item, position, head, d_head].
    """

    def slope(layer: int) -> Tensor:
        output, gradient = (values.float() for values in pairs[layer])
        change = (output - replacement.values(layer).to(output)) * replacement.where.to(output)[..., None, None]
        return position_sum(batch, (change * gradient).sum(-1), positions)

    return _over_layers(slope, pairs)


def _over_layers(reduce, layers) -> Tensor:
    """[item, layer, ...]: `reduce` of each layer; layers may lie on several devices."""
    with torch.no_grad():
        parts = [reduce(layer) for layer in layers]
        return torch.stack([part.to(parts[0].device) for part in parts], dim=1)


def position_sum(batch: Batch, values: Tensor, positions: str, mean: bool = False) -> Tensor:
    """[item, position, ...] -> [item, ...] float32: sum (or mean) over each item's answer or all positions."""
    if positions == "answer":
        values, mask = batch.gather(values), batch.answer_mask
    else:
        mask = batch.attention_mask
    weight = mask.to(values.device, torch.float32)
    if mean:
        weight = weight / weight.sum(1, keepdim=True)
    return torch.einsum("ip...,ip->i...", values.float(), weight)
