"""Direct logit attribution: what each head's output by itself adds to the logits, item by item."""

from typing import NamedTuple

import torch
from torch import Tensor

from headatlas.errors import HeadAtlasError
from headatlas.models.batches import Batch
from headatlas.models.stream import Seen, Stream, watch_stream

TOLERANCE = 1e-3  # of the size of all parts together, by which they may miss the difference of logits


class Direct(NamedTuple):
    """The parts of a difference of logits; they add up to it at every position.

    `heads` [item, answer, layer, head]; `rest` [item, answer, layer]: MLP, biases and all else that a layer adds, over
    all layers of the stream; `embedding`, `bias` (of final norm and output layer), `difference` [item, answer]. `mask`
    [item, answer]: positions that count. `weighted` [item, layer, head, d_head]: mean head output over these positions,
    each times the scales of the norms behind it. NaN in layers without attention.
    """

    heads: Tensor
    rest: Tensor
    embedding: Tensor
    bias: Tensor
    difference: Tensor
    mask: Tensor
    weighted: Tensor

    @property
    def of_items(self) -> Tensor:
        """[item, layer, head]: mean over the positions that count."""
        return position_mean(self.heads, self.mask)


def direct_effects(stream: Stream, batch: Batch) -> Direct:
    """Direct effects of all heads, with the scales of all norms frozen.

    Of items with foils, on the logit of the answer's token less that of the foil's where the two part; of others, on
    the logit of each answer token less the mean logit over the vocabulary.

    Raises:
        HeadAtlasError: the parts do not add up to the difference.
    """
    model = stream.model

    def choose(values: Tensor) -> Tensor:
        return batch.scored(batch.gather(values))

    targets = batch.scored(batch.targets)
    mask = batch.answer_mask if batch.foils is None else torch.ones_like(targets, dtype=torch.bool)
    with torch.no_grad(), watch_stream(stream, batch.input_ids.shape, choose) as seen:
        model.logits(batch.input_ids, batch.attention_mask, choose)
    reader, difference = stream.readers(seen.normed, lambda logits: _difference(logits, targets, batch.foils))
    scale = stream.final.scale(seen.last, seen.normed)
    through = scale * stream.final.transposed(reader)  # what reads the stream behind the last layer
    heads = model.over_layers(torch.stack([_heads(stream, seen, layer, through) for layer in seen.z], 1))
    rest = torch.stack([_dot(through, added) for added in seen.added.values()], -1)
    written = torch.stack([value.sum(-1) for value in heads.unbind(1)], -1).nan_to_num()
    places = {layer: place for place, layer in enumerate(stream.layers)}
    for layer in seen.z:
        rest[..., places[model.attentions[layer].layer]] -= written[..., layer]
    bias = difference - _dot(reader, seen.normed) + _dot(reader, stream.final.bias)
    weighted = _weighted(stream, seen, scale, mask)
    parts = Direct(heads.movedim(1, 2), rest, _dot(through, seen.first), bias, difference, mask, weighted)
    _check_sum(parts, model.name)
    return parts


def _difference(logits: Tensor, targets: Tensor, foils: Tensor | None) -> Tensor:
    """[item, answer, token] -> [item, answer]."""
    chosen = logits.gather(-1, targets.to(logits.device)[..., None]).squeeze(-1)
    if foils is None:
        return chosen - logits.mean(-1)
    return chosen - logits.gather(-1, foils.to(logits.device)[:, None, None]).squeeze(-1)


def _heads(stream: Stream, seen: Seen, layer: int, through: Tensor) -> Tensor:
    """[item, answer, head]: each head's output times what reads it."""
    z, weight = seen.z[layer], stream.model.attentions[layer].weight.float()
    reader = stream.writes[layer].transposed(through.to(z.device))
    if layer in seen.scale:
        reader = reader * seen.scale[layer]
    return (torch.einsum("iao,hdo->iahd", reader, weight) * z).sum(-1).to(through.device)


def _weighted(stream: Stream, seen: Seen, scale: Tensor, mask: Tensor) -> Tensor:
    """[item, layer, head, d_head]: see `Direct`."""
    of_layers = []
    for layer, z in seen.z.items():
        scales = scale.to(z.device) * seen.scale.get(layer, 1.0)
        of_layers.append(position_mean(scales[..., None] * z, mask).to(scale.device))
    return stream.model.over_layers(torch.stack(of_layers, 1))


def position_mean(values: Tensor, mask: Tensor) -> Tensor:
    """[item, answer, ...] -> [item, ...]: mean over the positions that count."""
    share = (mask / mask.sum(1, keepdim=True)).to(values)
    return torch.einsum("ia,ia...->i...", share, values)


def _dot(reader: Tensor, part: Tensor) -> Tensor:
    return (reader * part.to(reader.device)).sum(-1)


def _check_sum(parts: Direct, name: str) -> None:
    """Refuse parts that do not add up: then something on the way to the logits was not seen."""
    heads = parts.heads.nan_to_num()
    found = heads.sum((-1, -2)) + parts.rest.sum(-1) + parts.embedding + parts.bias
    size = heads.abs().sum((-1, -2)) + parts.rest.abs().sum(-1) + parts.embedding.abs() + parts.bias.abs()
    missed = (found - parts.difference).abs() / size.clamp_min(1e-6)
    if not bool((missed <= TOLERANCE).all()):
        raise HeadAtlasError(
            f"model {name}: direct effects of heads, MLPs and embedding miss the difference of logits by "
            f"{float(missed.max()):.2g} of their size; set evidence.roles to false"
        )


def promoted_tokens(stream: Stream, weighted: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The tokens whose logits each head raises and lowers most, by a mean of its outputs.

    Args:
        weighted: [layer, head, d_head], mean over items of `Direct.weighted`.

    Returns:
        [layer, head, count] token ids each, the strongest first; -1 in layers without attention.
    """
    n_layers, n_heads, _ = weighted.shape
    found = torch.full((2, n_layers, n_heads, count), -1, dtype=torch.long)
    for layer in stream.writes:
        logits = stream.unembed(stream.final.linear(written(stream, layer, weighted[layer])))
        for way, largest in enumerate((True, False)):
            found[way, layer] = logits.topk(count, largest=largest).indices.cpu()
    return found[0], found[1]


def written(stream: Stream, layer: int, z: Tensor) -> Tensor:
    """[..., head, d_head] -> what each head writes into the stream [..., head, hidden], over the norm's scale."""
    weight, write = stream.model.attentions[layer].weight.float(), stream.writes[layer]
    output = torch.einsum("...hd,hdo->...ho", z.to(weight.device).float(), weight)
    return write.factor * (write.norm.linear(output) if write.norm else output)
