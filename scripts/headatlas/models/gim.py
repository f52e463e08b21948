"""GIM's backward pass: other gradients, with every number of the forward pass unchanged.

Gradient Interaction Modifications (Edin et al. 2025, arXiv 2505.17630), as in the authors' code for circuits:

- a norm is linear: its scale is a constant;
- the derivative of attention's softmax is that at twice the temperature;
- what two factors produce together is shared among them: half of the gradient to values, a quarter to queries and to
  keys, half into the product of a gated MLP (the package gim-explain leaves the last one out).

Norms, attention and gates are found by what they do on a short random sequence. Knows modules and hooks; nothing about
tasks, baselines or methods.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from headatlas.errors import HeadAtlasError
from headatlas.models.head_model import PROBE_TOKENS, HeadModel
from headatlas.models.head_proof import EQUAL, SOFTMAX, attention_functions, is_linear

TEMPERATURE = 2.0
SHARES = {"query": 0.25, "key": 0.25, "value": 0.5}
GATED_SHARE = 0.5
PRODUCTS = {"mul", "mul_", "multiply", "__mul__", "__rmul__", "__imul__"}


@dataclass(frozen=True)
class Norm:
    """A norm over the last dimension: weight * (x - mean) * (variance + epsilon) ** -0.5 + bias.

    `mean` and variance are those of the RMS norm (0 and the mean square) unless it is `centred`.
    """

    weight: Tensor
    bias: Tensor
    epsilon: float
    centred: bool

    def frozen(self, x: Tensor) -> Tensor:
        """Its output as a linear function of its input: the scale carries no gradient."""
        centred = x - x.mean(-1, keepdim=True) if self.centred else x
        scale = (centred.detach().square().mean(-1, keepdim=True) + self.epsilon).rsqrt()
        return self.weight * centred * scale + self.bias


@dataclass
class Parts:
    """What the backward rules change: norms, and the linear maps that take the product of a gate."""

    norms: dict[nn.Module, Norm] = field(default_factory=dict)
    behind_gates: list[nn.Module] = field(default_factory=list)


@contextmanager
def gim(model: HeadModel) -> Iterator[Parts]:
    """While open, backward passes through the model follow GIM's rules. Attention runs transformers' eager code.

    Yields:
        the parts that were found.

    Raises:
        HeadAtlasError: a part of the model for which there is no rule.
    """
    _check_attention(model)
    with ExitStack() as stack:
        stack.enter_context(_eager(model))
        parts = find_parts(model)
        stack.enter_context(attention_functions(lambda function: ruled(function, Tempered)))
        for module, norm in parts.norms.items():
            stack.callback(module.register_forward_hook(_freeze(norm)).remove)
        for module in parts.behind_gates:
            stack.callback(module.register_forward_pre_hook(_share).remove)
        yield parts


def replace_gradient(value: Tensor, by: Tensor) -> Tensor:
    """`value`, to the last bit, with the gradient of `by`."""
    return value.detach() + (by - by.detach())


def _freeze(norm: Norm) -> Callable:
    return lambda _module, args, output: replace_gradient(output, norm.frozen(args[0]))


def _share(_module, args: tuple) -> tuple:
    return replace_gradient(args[0], GATED_SHARE * args[0]), *args[1:]


class Tempered(TorchFunctionMode):
    """Every softmax has the derivative of a softmax at a higher temperature (without that temperature's factor)."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Intercept softmax only."""
        output = function(*args, **(kwargs or {}))
        if function not in SOFTMAX:
            return output
        softer = function(args[0] / TEMPERATURE, *args[1:], **(kwargs or {}))
        return replace_gradient(output, TEMPERATURE * softer)


def ruled(function: Callable, mode: Callable[[], TorchFunctionMode]) -> Callable:
    """An attention function whose queries, keys and values get their shares, and whose softmax runs under `mode`."""

    def call(module, query, key, value, *args, **kwargs):
        parts = {"query": query, "key": key, "value": value}
        shared = [replace_gradient(part, SHARES[name] * part) for name, part in parts.items()]
        with mode():
            return function(module, *shared, *args, **kwargs)

    return call


@contextmanager
def _eager(model: HeadModel) -> Iterator[None]:
    """While open, attention runs the family's eager code, whose softmax can be reached."""
    before = model.model.config._attn_implementation
    model.model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.model.set_attn_implementation(before)


# --- finding the parts -----------------------------------------------------------------------------------------------


def _check_attention(model: HeadModel) -> None:
    """Refuse layers whose heads do not go straight from transformers' attention interface to the output projection."""
    if model.layers_without_attention:
        raise _no_rule(model, f"layer {model.layers_without_attention[0]}, which has no attention")
    for layer, attention in enumerate(model.attentions):
        if attention.between:
            raise _no_rule(model, f"layer {layer}, in which a {attention.between} follows attention")
        if attention.proof != "attention function":
            raise _no_rule(model, f"layer {layer}, which has attention code of its own")


def find_parts(model: HeadModel) -> Parts:
    """Find norms and gates on a probe pass, and make sure that there is a rule for everything.

    Args:
        model: with attention in all layers, in transformers' eager code.

    Raises:
        HeadAtlasError: a norm, a product or a softmax that has no rule.
    """
    probe = _probe(model)
    names = {module: name for name, module in model.model.named_modules()}
    parts = Parts()
    for module, x in probe.leaves.items():
        if _ignores_scale(module, x):
            norm = _norm(module, x)
            if norm is None:
                raise _no_rule(model, f"{names[module]}, which seems to be a norm of another kind")
            parts.norms[module] = norm
    for product, place in probe.products:
        user = next((module for module, x in probe.linear if x is product), None)
        if user is None:
            raise _no_rule(model, f"{place}, which multiplies what depends on the input")
        parts.behind_gates.append(user)
    for layer, attention in enumerate(model.attentions):
        if not any(module in parts.norms for module in attention.layer.modules()):
            raise _no_rule(model, f"layer {layer}, in which no norm is a module of its own")
    if probe.softmaxes != model.n_layers:
        raise _no_rule(model, f"attention with {probe.softmaxes} softmaxes in {model.n_layers} layers")
    return parts


def _no_rule(model: HeadModel, what: str) -> HeadAtlasError:
    return HeadAtlasError(
        f"model {model.name}: methods.attribution.rule: gim has no backward rule for {what}; use rule: plain"
    )


@dataclass
class _Probe:
    """What a probe pass shows.

    `leaves`: the input of every module without parts whose output has the same shape. `linear`: linear maps and their
    inputs. `products`: of two tensors that both depend on the embeddings, and the module in which they appear.
    `softmaxes`: number of those in attention functions.
    """

    leaves: dict[nn.Module, Tensor] = field(default_factory=dict)
    linear: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    products: list[tuple[Tensor, str]] = field(default_factory=list)
    softmaxes: int = 0
    inside: list[str] = field(default_factory=list)  # names of the modules that run at the moment
    in_leaf: int = 0


class _Products(TorchFunctionMode):
    """Notes the products of two tensors with gradients outside modules without parts (such as activations)."""

    def __init__(self, probe: _Probe):
        super().__init__()
        self.probe = probe

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Watch multiplications only."""
        output = function(*args, **(kwargs or {}))
        multiplies = getattr(function, "__name__", "") in PRODUCTS and not self.probe.in_leaf
        if multiplies and all(isinstance(value, Tensor) and value.requires_grad for value in args[:2]):
            self.probe.products.append((output, self.probe.inside[-1]))
        return output


class _Counted(TorchFunctionMode):
    """Counts softmaxes."""

    def __init__(self, probe: _Probe):
        super().__init__()
        self.probe = probe

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Watch softmax only."""
        self.probe.softmaxes += function in SOFTMAX
        return function(*args, **(kwargs or {}))


def _probe(model: HeadModel) -> _Probe:
    """Pass a short random sequence, with gradients from the embeddings on."""
    probe, embeddings = _Probe(), model.model.get_input_embeddings()
    ids = torch.randint(0, len(embeddings.weight), (1, PROBE_TOKENS), generator=torch.Generator().manual_seed(0))
    ids = ids.to(model.device)
    with ExitStack() as stack:
        stack.callback(embeddings.register_forward_hook(lambda _m, _a, out: out.detach().requires_grad_()).remove)
        for name, module in model.model.named_modules():
            leaf = not any(True for _ in module.children())
            stack.callback(module.register_forward_pre_hook(_entered(probe, name, leaf)).remove)
            stack.callback(module.register_forward_hook(_left(probe, leaf)).remove)
        stack.enter_context(attention_functions(lambda function: ruled(function, lambda: _Counted(probe))))
        stack.enter_context(_Products(probe))
        with torch.enable_grad():
            model.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    return probe


def _entered(probe: _Probe, name: str, leaf: bool) -> Callable:
    def hook(module, args):
        probe.inside.append(name)
        probe.in_leaf += leaf
        if leaf and is_linear(module):
            probe.linear.append((module, args[0]))

    return hook


def _left(probe: _Probe, leaf: bool) -> Callable:
    def hook(module, args, output):
        probe.inside.pop()
        probe.in_leaf -= leaf
        alone = len(args) == 1 and isinstance(args[0], Tensor) and isinstance(output, Tensor)
        if leaf and alone and not is_linear(module) and args[0].shape == output.shape:
            probe.leaves[module] = args[0].detach()

    return hook


def _ignores_scale(module: nn.Module, x: Tensor) -> bool:
    """Whether a module gives the same output for an input of twice the size, and not just any input the same."""
    if not x.is_floating_point():
        return False
    noise = 10 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x)  # beside it no epsilon counts
    with torch.no_grad():
        once, twice, other = module(noise), module(2 * noise), module(-noise)
    return _close(once, twice) and not _close(once, other)


def _norm(module: nn.Module, x: Tensor) -> Norm | None:
    """The norm that a module computes; None if it is not of that form."""
    size = x.shape[-1]
    signs = torch.ones(size).to(x)
    signs[1::2] = -1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
    with torch.no_grad():
        bias = module(torch.zeros_like(x))
        centred = _close(module(noise + 1), module(noise))
        pattern = signs - signs.mean() if centred else signs
        spread = pattern.square().mean()
        large, small = (module((scale * pattern).expand_as(x).contiguous()) - bias for scale in (1e3, 1e-3))
        weight = large / pattern * spread.sqrt()
        # small = weight * 1e-3 * pattern / sqrt(1e-6 * spread + epsilon)
        ratio = (weight * 1e-3 * pattern * small).sum() / small.square().sum()
        epsilon = float((ratio.double().square() - 1e-6 * spread.double()).clamp_min(0))
        first = (0,) * (x.ndim - 1)
        norm = Norm(weight[first].clone(), bias[first].clone(), epsilon, centred)
        right = all(_close(norm.frozen(scale * noise), module(scale * noise)) for scale in (1, 0.01))
    return norm if right else None


def _close(left: Tensor, right: Tensor) -> bool:
    error = (left.float() - right.float()).abs().max()
    return bool(error <= EQUAL[right.dtype] * right.float().abs().max().clamp_min(1e-30))
