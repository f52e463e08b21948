"""Proves the attention heads of a loaded model by what they do, not by names or by the config's counts.

A head is what one attention pattern mixes. The number of heads is that of the query tensor that reaches the attention
function (transformers' attention interface), or of the attention weights if a family has its own attention code. Three
properties are tested on a short random sequence:

- the attention function, given random queries and keys, mixes positions with the same weights in every channel of a
  head, and with other weights in every other head;
- the output projection is the first linear map whose input changes with the attention's output, and its input is that
  output; or what lies between (a gate, a norm) keeps heads separate except for one factor per position;
- the heads' contributions add up to the projection's output (`head_model.contribution_error`).

Convolutions, recurrent blocks and linear attention have no such function, so they are not heads.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import Cache
from transformers.modeling_utils import AttentionInterface

from headatlas.errors import HeadAtlasError

SOFTMAX = {torch.softmax, torch.Tensor.softmax, nn.functional.softmax}
SDPA = nn.functional.scaled_dot_product_attention
# Largest relative error at which two ways to compute a number count as equal, per dtype.
EQUAL = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 6e-2, torch.float16: 1e-2}


@dataclass
class AttentionCall:
    """One call of an attention function through transformers' interface.

    `function(query, key, value)` repeats it with other tensors; `output` is [item, position, head, d_head].
    """

    module: nn.Module
    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor


@dataclass
class LayerCall:
    """One layer in a pass: its arguments and the attention seen in it.

    `patterns` holds the shapes of the attention weights [..., position, position] of attention code that does not
    go through the interface.
    """

    name: str
    layer: nn.Module
    args: tuple
    kwargs: dict
    calls: list[AttentionCall] = field(default_factory=list)
    patterns: list[torch.Size] = field(default_factory=list)


@dataclass
class LinearCall:
    """Input and output of one linear map in a pass."""

    module: nn.Module
    input: Tensor
    output: Tensor


@dataclass(frozen=True)
class Proof:
    """What was found in a layer: output projection, number of heads, their width, and what lies between.

    `between` names what lies between the attention's output and the projection, None if they are the same; `by` names
    what identified the heads: `attention function` or `attention weights`.
    """

    projection: LinearCall
    n_heads: int
    d_head: int
    between: str | None
    by: str


def is_linear(module: nn.Module) -> bool:
    """Whether a module holds a matrix other than an embedding."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def outermost_layers(model: nn.Module) -> dict[nn.Module, str]:
    """Modules in the outermost module lists, and their names."""
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    return {layer: f"{name}.{index}" for name in outer for index, layer in enumerate(model.get_submodule(name))}


@contextmanager
def attention_functions(replace: Callable[[Callable], Callable]) -> Iterator[None]:
    """While open, transformers' interface returns `replace(function)` for every attention function."""
    own = AttentionInterface.get_interface

    def get_interface(self, *args, **kwargs):
        return replace(own(self, *args, **kwargs))

    AttentionInterface.get_interface = get_interface
    try:
        yield
    finally:
        AttentionInterface.get_interface = own


class OwnAttention(TorchFunctionMode):
    """Observes attention weights [..., position, position] of code outside the interface, and can replace them.

    Args:
        positions: length of the sequence.
        seen: called with the shape of the weights.
        weights: from such a shape to what replaces them, if anything does.
    """

    def __init__(self, positions: int, seen: Callable[[torch.Size], None], weights: Callable | None = None):
        super().__init__()
        self.square = (positions, positions)
        self.seen, self.weights = seen, weights
        self.aside = False  # while True, nothing is intercepted

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Intercept softmax and scaled dot-product attention only."""
        kwargs = kwargs or {}
        if self.aside:
            return function(*args, **kwargs)
        if function is SDPA and args[0].shape[-2] == args[1].shape[-2] == self.square[0]:
            shape = torch.Size((*args[0].shape[:-1], self.square[1]))
            self.seen(shape)
            return self._mix(shape, args[2]) if self.weights else function(*args, **kwargs)
        output = function(*args, **kwargs)
        if function in SOFTMAX and output.ndim > 2 and output.shape[-2:] == self.square:
            self.seen(output.shape)
            return self.weights(output.shape).to(output) if self.weights else output
        return output

    def _mix(self, shape: torch.Size, value: Tensor) -> Tensor:
        if value.ndim == 4 and value.shape[1] not in (1, shape[1]):
            value = value.repeat_interleave(shape[1] // value.shape[1], dim=1)
        return self.weights(shape).to(value) @ value


@contextmanager
def watch_layers(model: nn.Module, positions: int) -> Iterator[list[LayerCall]]:
    """While open, collects the calls of the model's layers, and the attention in each, in order of execution."""
    found: list[LayerCall] = []
    open_layers: list[LayerCall] = []
    own = OwnAttention(positions, lambda shape: open_layers and open_layers[-1].patterns.append(shape))

    def enter(layer, args, kwargs, name):
        # When rerun, a layer must not find itself in a cache (XLM creates one by default).
        args = tuple(None if isinstance(value, Cache) else value for value in args)
        kwargs = {key: None if isinstance(value, Cache) else value for key, value in kwargs.items()}
        found.append(LayerCall(name, layer, args, kwargs))
        open_layers.append(found[-1])

    def watched(function: Callable) -> Callable:
        def call(module, query, key, value, *args, **kwargs):
            def again(query, key, value):
                return function(module, query, key, value, *args, **kwargs)[0]

            own.aside = True  # code inside an attention function is not the model's own attention code
            output = function(module, query, key, value, *args, **kwargs)
            own.aside = False
            if open_layers:
                open_layers[-1].calls.append(AttentionCall(module, again, query, key, value, output[0]))
            return output

        return call

    with ExitStack() as stack:
        for layer, name in outermost_layers(model).items():
            hook = layer.register_forward_pre_hook(
                lambda layer, args, kwargs, name=name: enter(layer, args, kwargs, name), with_kwargs=True
            )
            stack.callback(hook.remove)
            stack.callback(layer.register_forward_hook(lambda *_: open_layers.pop() and None).remove)
        stack.enter_context(own)
        stack.enter_context(attention_functions(watched))
        yield found


def prove(call: LayerCall, name: str) -> Proof:
    """Find a layer's heads and prove them.

    Args:
        call: of a layer in which attention was seen; name: of the model.

    Raises:
        HeadAtlasError: what was tested, and the result.
    """
    where = f"model {name}: {call.name}"
    seen = call.calls or call.patterns
    if len(seen) > 1:
        raise HeadAtlasError(
            f"{where} computes attention {len(seen)} times in one pass, so heads are not well defined there "
            "(differential, multi-stream or looped attention); such models are not supported"
        )
    return _prove_function(call, where) if call.calls else _prove_weights(call, where)


def _prove_function(call: LayerCall, where: str) -> Proof:
    (attention,) = call.calls
    output = attention.output
    n_heads = attention.query.shape[1]
    if output.ndim != 4 or output.shape[2] != n_heads:
        raise HeadAtlasError(
            f"{where}: the queries have {n_heads} heads, but the attention function returns {tuple(output.shape)} "
            "instead of [item, position, head, width]"
        )
    _check_mixing(attention, where)
    clean = _rerun(call)
    generator = torch.Generator().manual_seed(2)
    noise = _normal(output.shape, generator, output) * output.float().std().clamp_min(1e-6).to(output)
    moved = _rerun(call, lambda value: value + noise)
    projection = _first_moved(clean, moved, where)
    width = projection.input.shape[-1]
    if width % n_heads:
        raise HeadAtlasError(f"{where}: the linear map behind {n_heads} heads takes {width} channels")
    d_head = width // n_heads
    straight = output[..., :d_head].reshape(*output.shape[:2], -1)
    z = projection.input.reshape(*output.shape[:2], -1)
    between = None
    if straight.shape != z.shape or not _equal(straight, z):
        between = _what_stands_between(call, projection, noise, n_heads, where)
    return Proof(projection, n_heads, d_head, between, "attention function")


def _check_mixing(attention: AttentionCall, where: str) -> None:
    """All channels of a head must be one weighted sum over positions, with different weights for every head."""
    generator = torch.Generator().manual_seed(1)
    query, key = (_normal(value.shape, generator, value) for value in (attention.query, attention.key))
    along, channel = (_normal((size,), generator, attention.value) for size in attention.value.shape[-2:])
    value = (along[:, None] * channel).expand(attention.value.shape)
    mixed = attention.function(query, key, value.contiguous()).float()
    channel = channel[: mixed.shape[-1]].float()
    weighted = mixed @ channel / (channel @ channel)  # [item, position, head]: sum of a head's weights times `along`
    if not _equal(weighted[..., None] * channel, mixed, attention.value.dtype):
        raise HeadAtlasError(
            f"{where}: the channels of one head mix positions with different weights, so it is not a head"
        )
    apart = (weighted[..., :, None] - weighted[..., None, :]).abs().amax((0, 1))
    apart.fill_diagonal_(torch.inf)
    if len(apart) > 1 and apart.min() <= EQUAL[attention.value.dtype] * weighted.abs().max():
        first, second = divmod(int(apart.argmin()), len(apart))
        raise HeadAtlasError(
            f"{where}: heads {first} and {second} mix positions with the same weights whatever their queries, so they "
            "are parts of one head"
        )


def _prove_weights(call: LayerCall, where: str) -> Proof:
    """For a family's own attention code: replace the attention weights by random ones and compare the result."""
    (shape,) = call.patterns
    items, positions, hidden = _hidden(call).shape
    n_heads = shape.numel() // (items * positions**2)
    generator = torch.Generator().manual_seed(3)
    weights, others = (_random_weights(items, n_heads, positions, generator) for _ in range(2))

    def again(weights: Tensor, change: Tensor | None = None) -> dict[nn.Module, LinearCall]:
        with OwnAttention(positions, lambda _shape: None, weights.reshape):
            return _rerun(call, change=change)

    clean = again(weights)
    projection = _first_moved(clean, again(others), where)
    change = torch.zeros(items, positions, hidden)
    change[:, 0] = torch.randn(hidden, generator=generator)
    moved = again(weights, change * _hidden(call).float().std().cpu())
    width = projection.input.shape[-1]
    if width % n_heads or projection.module not in moved:
        raise HeadAtlasError(f"{where}: the linear map behind {n_heads} heads takes {width} channels")
    z = [run[projection.module].input.reshape(items, positions, n_heads, -1).float().cpu() for run in (clean, moved)]
    answer = (z[1] - z[0])[:, 1:]
    first = weights[:, :, 1:, 0].transpose(1, 2)[..., None]  # [item, position, head, 1]: weight on the changed position
    per_weight = (first * answer).sum(1, keepdim=True) / (first * first).sum(1, keepdim=True)
    if not _equal(first * per_weight, answer, projection.input.dtype) or not answer[:, -1].any(-1).all():
        raise HeadAtlasError(
            f"{where}: cut into {n_heads} heads, the input of its output projection does not follow their attention "
            "weights"
        )
    return Proof(_rerun(call)[projection.module], n_heads, width // n_heads, None, "attention weights")


def _what_stands_between(call: LayerCall, projection: LinearCall, noise: Tensor, n_heads: int, where: str) -> str:
    """Name what lies between attention and projection: it may change a head, but at most scale the others by a factor.

    Heads are changed in one group per binary digit of their numbers, so that any two heads differ in some group.
    """
    before = _heads(projection.input, n_heads)
    scaled = False
    for digit in range(max(1, (n_heads - 1).bit_length())):
        chosen = torch.tensor([head >> digit & 1 == 1 or n_heads == 1 for head in range(n_heads)])
        mask = chosen.to(noise.device)[:, None]
        after = _heads(_rerun(call, lambda value, mask=mask: value + noise * mask)[projection.module].input, n_heads)
        change = (after - before).flatten(0, -3)  # [position, head, width]
        reaches = change.abs().amax((0, 2)) > _slack(projection.input, before)
        if not reaches[chosen].all():
            raise HeadAtlasError(f"{where}: a head's output does not reach its channels of the output projection")
        if reaches[~chosen].any():
            scaled = True
            kept, moved = (part.flatten(0, -3)[:, ~chosen].flatten(1) for part in (before, after))
            factor = (kept * moved).sum(1) / (kept * kept).sum(1)
            if not _equal(factor[:, None] * kept, moved, projection.input.dtype):
                raise HeadAtlasError(f"{where}: the step between attention and output projection mixes the heads")
    return "norm over all heads" if scaled else "gate or scale of each head"


def _heads(z: Tensor, n_heads: int) -> Tensor:
    z = z.reshape(-1, z.shape[-1]) if z.ndim < 3 else z
    return z.unflatten(-1, (n_heads, -1)).float().cpu()


def _rerun(
    call: LayerCall, edit: Callable[[Tensor], Tensor] | None = None, change: Tensor | None = None
) -> dict[nn.Module, LinearCall]:
    """Rerun a layer; return the calls of its linear maps in order of execution.

    Args:
        edit: maps the attention function's output; change: is added to the layer's input.
    """
    found: dict[nn.Module, LinearCall] = {}

    def keep(module, args, output):
        found.setdefault(module, LinearCall(module, args[0], output))

    def edited(function: Callable) -> Callable:
        def call_it(*args, **kwargs):
            output, *rest = function(*args, **kwargs)
            return edit(output), *rest

        return call_it

    args, kwargs = call.args, call.kwargs
    if change is not None:
        hidden = _hidden(call) + change.to(_hidden(call))
        args, kwargs = ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})
    with ExitStack() as stack:
        for module in filter(is_linear, call.layer.modules()):
            stack.callback(module.register_forward_hook(keep).remove)
        if edit:
            stack.enter_context(attention_functions(edited))
        call.layer(*args, **kwargs)
    return found


def record_calls(call: LayerCall, modules: list[nn.Module]) -> dict[nn.Module, tuple[list[Tensor], Tensor]]:
    """Rerun a layer; return the inputs and the output of each of these modules."""
    found = {}

    def keep(module, args, kwargs, output):
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        found[module] = (inputs, output[0] if isinstance(output, tuple | list) else output)

    with ExitStack() as stack:
        for module in modules:
            stack.callback(module.register_forward_hook(keep, with_kwargs=True).remove)
        call.layer(*call.args, **call.kwargs)
    return found


def _hidden(call: LayerCall) -> Tensor:
    return call.args[0] if call.args else call.kwargs["hidden_states"]


def _first_moved(clean: dict, moved: dict, where: str) -> LinearCall:
    """The clean call of the first linear map whose input has changed."""
    for module, after in moved.items():
        before = clean.get(module)
        if before is None or before.input.shape != after.input.shape:
            break
        if (after.input.float() - before.input.float()).abs().max() > _slack(before.input):
            return before
    raise HeadAtlasError(f"{where}: found no linear map that takes the heads' outputs")


def _random_weights(items: int, n_heads: int, positions: int, generator: torch.Generator) -> Tensor:
    """[item, head, query, key] that are positive up to the query's position and sum to 1."""
    weights = torch.rand(items, n_heads, positions, positions, generator=generator).add(0.05).tril()
    return weights / weights.sum(-1, keepdim=True)


def _normal(shape, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator).to(like)


def _slack(value: Tensor, size: Tensor | None = None) -> float:
    largest = float((value if size is None else size).float().abs().max())
    return EQUAL.get(value.dtype, 6e-2) * max(largest, torch.finfo(torch.float32).tiny)


def _equal(left: Tensor, right: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Whether two tensors agree within the rounding of `dtype` (by default that of `right`)."""
    error = float((left.float() - right.float()).abs().max())
    scale = float(right.float().abs().max())
    return math.isfinite(error) and error <= EQUAL.get(dtype or right.dtype, 6e-2) * max(scale, 1e-30)
