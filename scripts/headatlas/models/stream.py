"""The residual stream: what each head writes into it, and how the output layer reads it.

Direct effects (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits) take the way from a head's output
straight to the logits: its slice of the output projection, a norm behind that if the family has one, the final norm,
the output layer. Each norm keeps the scale that it has in the pass ("frozen"), so the way is linear and the parts of
the stream add up to the logits. The modules on it are found by what they compute on a random sequence, not by name.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from headatlas.models.head_model import PROBE_TOKENS, HeadModel
from headatlas.models.head_proof import outermost_layers

SLACK = 1e-3  # part of the smaller of two compared things by which they may differ, besides rounding
ROUNDING = 16  # steps of the number format, of the larger of them


class UnknownStreamError(Exception):
    """Why the way from a model's heads to its logits is not known; direct effects are left out then."""


@dataclass(frozen=True)
class Norm:
    """A norm (RMSNorm or LayerNorm) as a linear map times a scale for each position.

    `weight`, `bias` [hidden]; `centred`: whether it subtracts the mean first.
    """

    module: nn.Module
    weight: Tensor
    bias: Tensor
    centred: bool

    def linear(self, part: Tensor) -> Tensor:
        """[..., hidden], a part of its input -> the same part of its output, over the scale."""
        part = part.float()
        centred = part - part.mean(-1, keepdim=True) if self.centred else part
        return self.weight.to(part.device) * centred

    def transposed(self, reader: Tensor) -> Tensor:
        """[..., hidden], what reads its output -> what reads its input, over the scale."""
        weighted = self.weight.to(reader.device) * reader
        return weighted - weighted.mean(-1, keepdim=True) if self.centred else weighted

    def scale(self, given: Tensor, output: Tensor) -> Tensor:
        """The scale at each position, [..., 1], from input and output [..., hidden]."""
        linear, output = self.linear(given), output.float() - self.bias.to(output.device)
        return (linear * output).sum(-1, keepdim=True) / (linear * linear).sum(-1, keepdim=True).clamp_min(1e-30)

    def explains(self, given: Tensor, output: Tensor) -> bool:
        """Whether it maps this input to this output."""
        rest = output.float() - self.bias.to(output.device) - self.scale(given, output) * self.linear(given)
        return _small(rest, output, output)


@dataclass(frozen=True)
class Write:
    """How the output of a layer's attention projection enters the stream: through a norm, if any, times a factor."""

    norm: Norm | None
    factor: float

    def transposed(self, reader: Tensor) -> Tensor:
        """[..., hidden], what reads the stream -> what reads the projection's output, over the norm's scale."""
        return self.factor * (self.norm.transposed(reader) if self.norm else reader)


@dataclass(frozen=True)
class Stream:
    """The residual stream of a model.

    `writes`: by layer with attention; `layers`: the modules that write into it, in order of execution; `final`: the
    norm before the output layer; `factor`: the model's logits over those of its output layer (1 where they are
    squeezed by a soft cap: direct effects then refer to the logits before it).
    """

    model: HeadModel
    writes: dict[int, Write]
    layers: list[nn.Module]
    final: Norm
    factor: float

    def unembed(self, normed: Tensor) -> Tensor:
        """[..., hidden], parts of the final norm's output -> their part of the logits [..., token]."""
        layer = self.model.model.get_output_embeddings()
        with torch.no_grad():
            logits = layer(torch.cat([normed.flatten(0, -2), torch.zeros_like(normed.flatten(0, -2)[:1])]))
        return self.factor * (logits[:-1] - logits[-1]).float().unflatten(0, normed.shape[:-1])

    def readers(self, normed: Tensor, difference: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """What in the final norm's output changes a difference of logits.

        Args:
            normed: [..., hidden], the final norm's output; difference: from logits [..., token] to [...], linear.

        Returns:
            [..., hidden]: the difference's gradient; and the difference itself [...].
        """
        with torch.enable_grad():
            given = normed.detach().requires_grad_()
            value = self.factor * difference(self.model.model.get_output_embeddings()(given).float())
            (reader,) = torch.autograd.grad(value.sum(), given)
        return reader.float(), value.detach()


@dataclass
class _Call:
    """Input and output of a module in the pass, as [token, hidden]."""

    module: nn.Module
    given: Tensor | None
    output: Tensor


@dataclass
class _LayerCalls:
    layer: nn.Module
    inside: list[_Call] = field(default_factory=list)
    whole: _Call | None = None


def find_stream(model: HeadModel) -> Stream:
    """Find the modules between a model's heads and its logits, by one pass over a random sequence.

    A layer is understood if what it adds to the stream is its attention's output plus the output of one other module
    (its MLP), possibly times a factor.

    Raises:
        UnknownStreamError: which of these is not so.
    """
    output_layer = model.model.get_output_embeddings()
    if output_layer is None:
        raise UnknownStreamError("it names no output layer")
    layers, outer, logits = _record(model)
    final = _final_norm(outer, output_layer, layers[-1].whole.output)
    for above, below in pairwise(layers):
        if not _same(above.whole.output, below.whole.given):
            raise UnknownStreamError("what a layer outputs is not what the next one takes")
    places = {attention.layer: layer for layer, attention in enumerate(model.attentions) if attention}
    writes = {}
    for calls in layers:
        layer = places.get(calls.layer)
        write = _write(calls, None if layer is None else model.attentions[layer].projection)
        if layer is not None:
            writes[layer] = write
    (unscaled,) = (call.output for call in outer if call.module is output_layer)
    return Stream(model, writes, [calls.layer for calls in layers], final, _factor(unscaled, logits))


def _record(model: HeadModel) -> tuple[list[_LayerCalls], list[_Call], Tensor]:
    """The calls in each layer, those outside of layers, and the logits [token, vocabulary] of a random sequence."""
    names = outermost_layers(model.model)
    own = {names[attention.layer].rpartition(".")[0] for attention in model.attentions if attention}
    layers = {layer for layer, name in names.items() if name.rpartition(".")[0] in own}
    inside = {module for layer in layers for module in layer.modules()}
    found: list[_LayerCalls] = []
    outer: list[_Call] = []

    def leave(module, args, kwargs, output):
        call = _call(module, args, kwargs, output)
        if call is None:
            return
        if module in layers:
            found[-1].whole = call
        else:
            (found[-1].inside if module in inside else outer).append(call)

    with ExitStack() as stack:
        for module in model.model.modules():
            stack.callback(module.register_forward_hook(leave, with_kwargs=True).remove)
        for layer in layers:
            enter = layer.register_forward_pre_hook(lambda layer, _args: found.append(_LayerCalls(layer)))
            stack.callback(enter.remove)
        vocabulary = model.model.get_input_embeddings().weight.shape[0]
        ids = torch.randint(0, vocabulary, (1, PROBE_TOKENS), generator=torch.Generator().manual_seed(4))
        ids = ids.to(model.device)
        with torch.no_grad():
            logits = model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    if not all(calls.whole for calls in found):
        raise UnknownStreamError("a layer does not take and output one vector for each position")
    return found, outer, logits.float()


def _call(module: nn.Module, args: tuple, kwargs: dict, output) -> _Call | None:
    """A module's call if its output is a vector for each position."""
    output = output[0] if isinstance(output, tuple | list) and output else output
    given = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
    if not isinstance(output, Tensor) or output.ndim < 2 or output.shape[:-1].numel() != PROBE_TOKENS:
        return None
    # Copies: some families add to these tensors in place.
    flat = output.reshape(PROBE_TOKENS, -1).float().clone()
    fits = given is not None and given.is_floating_point() and given.numel() % PROBE_TOKENS == 0
    return _Call(module, given.reshape(PROBE_TOKENS, -1).float().clone() if fits else None, flat)


def _final_norm(outer: list[_Call], output_layer: nn.Module, last: Tensor) -> Norm:
    """The norm that maps the last layer's output to the output layer's input."""
    read = next((call.given for call in outer if call.module is output_layer), None)
    for call in outer:
        found = read is not None and call.given is not None and _same(call.given, last) and _same(call.output, read)
        norm = _norm(call) if found and call.module is not output_layer else None
        if norm:
            return norm
    raise UnknownStreamError("no norm leads from its last layer to its output layer")


def _norm(call: _Call) -> Norm | None:
    """A module as a norm, from what it makes of zeros and of two vectors; None if it is none."""
    width = call.given.shape[-1]
    if call.output.shape[-1] != width:
        return None
    signs = torch.ones(width, device=call.given.device)
    signs[1::2] = -1
    signs[-1] *= 1 - width % 2  # the mean is zero
    other = signs.roll(1)
    with torch.no_grad():
        given = torch.stack([torch.zeros_like(signs), signs, other, torch.ones_like(signs)])
        bias, first, second, level = call.module(given[:, None].to(_dtype(call.module)))[:, 0].float()
    weight = torch.where(signs != 0, (first - bias) * signs, (second - bias) * other)
    norm = Norm(call.module, weight, bias, centred=bool((level - bias).abs().max() <= 1e-2 * weight.abs().max()))
    return norm if norm.explains(call.given, call.output) else None


def _dtype(module: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in module.parameters()), torch.float32)


def _write(calls: _LayerCalls, projection: nn.Module | None) -> Write | None:
    """How a layer's attention writes into the stream; None for a layer without attention.

    Raises:
        UnknownStreamError: what the layer adds is not its attention's output and that of another module.
    """
    delta = calls.whole.output - calls.whole.given
    outputs = [call.output for call in calls.inside if call.output.shape == delta.shape]
    nothing = torch.zeros_like(delta)
    attention = next((call.output for call in calls.inside if call.module is projection), nothing)
    behind = [call for call in calls.inside if projection and call.given is not None and _same(call.given, attention)]
    norms = [(norm, call.output) for call in behind if call.output.shape == delta.shape and (norm := _norm(call))]
    written = [(None, attention), *norms] if projection else [(None, output) for output in outputs]
    for solved in (lambda _added: 1.0, lambda added: float((added * delta).sum() / (added * added).sum())):
        for norm, own in written:
            for other in [*outputs, nothing]:
                added = own + other
                factor = solved(added) if added.any() else 1.0
                if _small(delta - factor * added, factor * own, calls.whole.output):
                    return Write(norm, factor) if projection else None
    raise UnknownStreamError("what a layer adds is not its attention's output plus that of one other module")


def _factor(unscaled: Tensor, logits: Tensor) -> float:
    """The model's logits over those of its output layer; 1 where they are not proportional."""
    factor = float((unscaled * logits).sum() / (unscaled * unscaled).sum())
    rest = (logits - factor * unscaled).abs().max()
    return factor if rest <= ROUNDING * torch.finfo(torch.float32).eps * logits.abs().max() else 1.0


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and _small(left - right, right, right)


def _small(rest: Tensor, part: Tensor, whole: Tensor) -> bool:
    """Whether a rest [token, hidden] is rounding beside a part of a whole, at every token."""
    rest, part, whole = (value.abs().amax(-1) for value in (rest, part, whole))
    return bool((rest <= SLACK * part + ROUNDING * torch.finfo(torch.float32).eps * whole).all())


# --- a pass -----------------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What a pass shows of the stream at the chosen positions.

    `z` by layer [..., head, d_head]; `scale` by layer [..., 1], of the norm behind the projection, if there is one;
    `last` and `normed` [..., hidden]: input and output of the final norm; `first` [..., hidden]: input of the first
    layer; `added` by number of the layer's module: what it adds [..., hidden].
    """

    z: dict[int, Tensor] = field(default_factory=dict)
    scale: dict[int, Tensor] = field(default_factory=dict)
    added: dict[int, Tensor] = field(default_factory=dict)
    first: Tensor | None = None
    last: Tensor | None = None
    normed: Tensor | None = None


@contextmanager
def watch_stream(stream: Stream, shape: torch.Size, choose: Callable[[Tensor], Tensor]) -> Iterator[Seen]:
    """While open, keeps what a pass over a batch shows of the stream.

    Args:
        shape: [item, position] of the batch; choose: from [item, position, ...] to the positions wanted.
    """
    seen, model = Seen(), stream.model

    def wanted(values: Tensor) -> Tensor:
        return choose(values.reshape(*shape, -1)).float()

    def heads(layer: int) -> Callable:
        attention = model.attentions[layer]

        def hook(_module, args):
            seen.z[layer] = attention.split(wanted(args[0]))

        return hook

    def behind(layer: int, norm: Norm) -> Callable:
        def hook(_module, args, output):
            seen.scale[layer] = norm.scale(wanted(args[0]), wanted(output))

        return hook

    def final(_module, args, output):
        seen.last, seen.normed = wanted(args[0]), wanted(output)

    def around(place: int) -> Callable:
        def hook(_module, args, kwargs, output):
            given = args[0] if args else kwargs["hidden_states"]
            output = output[0] if isinstance(output, tuple | list) else output
            if place == 0:
                seen.first = wanted(given)
            seen.added[place] = wanted(output) - wanted(given)

        return hook

    with ExitStack() as stack:
        for layer, write in stream.writes.items():
            stack.callback(model.attentions[layer].projection.register_forward_pre_hook(heads(layer)).remove)
            if write.norm:
                stack.callback(write.norm.module.register_forward_hook(behind(layer, write.norm)).remove)
        for place, layer in enumerate(stream.layers):
            stack.callback(layer.register_forward_hook(around(place), with_kwargs=True).remove)
        stack.callback(stream.final.module.register_forward_hook(final).remove)
        yield seen
