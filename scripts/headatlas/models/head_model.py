"""A causal language model as attention heads, found by structure and not by a list of names.

Knows modules, projections and hooks; nothing about tasks, baselines or methods.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import (
    Cache,
    PreTrainedModel,
)

from headatlas.errors import HeadAtlasError
from headatlas.models.head_proof import (
    EQUAL,
    LayerCall,
    LinearCall,
    outermost_layers,
    prove,
    record_calls,
    watch_layers,
)
from headatlas.models.memory import LIBRARIES, MB
from headatlas.models.precision import kept_in
from headatlas.models.quantised import expanded, is_quantised

PROBE_TOKENS = 7  # positions of the random sequence used to find and check heads

NO_ATTENTION = "give a model with attention heads"


@dataclass(frozen=True)
class Attention:
    """One layer's attention as found in the loaded model.

    The input of `projection` is the concatenation of the head outputs `z`, `n_heads` slices of `d_head`. `module` is
    the smallest module that outputs what the projection does (plus the residual, in some families), None if a family
    has none. `between` names what lies between attention and projection and so belongs to the head (a gate, a norm),
    None if nothing does. `proof` names what identified the heads (see `head_proof`).
    """

    name: str
    layer: nn.Module
    module: nn.Module | None
    projection: nn.Module
    n_heads: int
    d_head: int
    between: str | None = None
    proof: str = "attention function"

    def split(self, z: Tensor) -> Tensor:
        """[..., n_heads * d_head] -> [..., head, d_head]."""
        return z.unflatten(-1, (self.n_heads, self.d_head))

    @property
    def weight(self) -> Tensor:
        """[head, d_head, hidden]: the matrix that maps each head's output to the residual stream.

        Quantised weights are expanded anew each time.
        """
        weight = expanded(self.projection) if is_quantised(self.projection) else self.projection.weight.detach()
        if not weight.is_floating_point():
            raise HeadAtlasError(
                f"{self.name}: the output projection holds {weight.dtype} weights; load the model unquantised "
                "(models.<name>.dtype: float32, bfloat16 or float16)"
            )
        # nn.Linear keeps [out, in]; GPT-2's Conv1D keeps [in, out].
        rows = weight.T if isinstance(self.projection, nn.Linear) else weight
        return rows.unflatten(0, (self.n_heads, self.d_head))


@dataclass
class HeadModel:
    """A causal language model whose heads are known.

    It computes in float32, whatever the format of its weights; if it cannot, `half_because` says why. `attentions`:
    one per layer in order of execution; None for a layer without attention (hybrid models). `room`: on the CPU, bytes
    that a pass may take beyond the weights; None for no limit.
    """

    model: PreTrainedModel
    attentions: list[Attention | None]
    name: str = "model"
    half_because: str | None = None
    room: int | None = None

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.attentions)

    @property
    def attention_layers(self) -> list[int]:
        """The layers with attention; all layers, except in hybrid models."""
        return [layer for layer, attention in enumerate(self.attentions) if attention]

    @property
    def layers_without_attention(self) -> list[int]:
        """The others."""
        return [layer for layer, attention in enumerate(self.attentions) if not attention]

    def require(self, heads: Iterable[tuple[int, int]]) -> None:
        """Refuse (layer, head) pairs that the model does not have.

        Raises:
            HeadAtlasError: names the first.
        """
        for layer, head in heads:
            if layer not in self.attention_layers or not 0 <= head < self.n_heads:
                raise HeadAtlasError(
                    f"model {self.name}: has no head {layer}.{head} (its {self.n_layers} layers have {self.n_heads} "
                    "heads each, those without attention none); take a list made for this model"
                )

    def over_layers(self, values: Tensor) -> Tensor:
        """[item, layer with attention, ...] -> [item, layer, ...], NaN in the layers without."""
        if not self.layers_without_attention:
            return values
        full = values.new_full((len(values), self.n_layers, *values.shape[2:]), torch.nan)
        full[:, self.attention_layers] = values
        return full

    @property
    def n_heads(self) -> int:
        """Number of query heads per layer (the same in every layer that has attention)."""
        return self.attentions[self.attention_layers[0]].n_heads

    @property
    def d_head(self) -> int:
        """Width of one head's output."""
        return self.attentions[self.attention_layers[0]].d_head

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layer, head, d_head): the shape of all heads' outputs at one position."""
        return self.n_layers, self.n_heads, self.d_head

    @property
    def device(self) -> torch.device:
        """Device of the token ids."""
        return self.model.get_input_embeddings().weight.device

    @property
    def kept_in(self) -> torch.dtype:
        """Number format of its weights."""
        return kept_in(self.model.get_input_embeddings().weight)

    @property
    def arithmetic(self) -> torch.dtype:
        """Number format in which it computes: float32 even with half-precision weights, unless `half_because` says why
        not."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def devices(self) -> set[torch.device]:
        """Devices that hold its weights."""
        return {parameter.device for parameter in self.model.parameters()}

    def within(self, memory_mb: int) -> "HeadModel":
        """The same model, whose passes on the CPU keep to so much memory of the whole process."""
        on_cpu = all(device.type == "cpu" for device in self.devices)
        return replace(self, room=memory_mb * MB - LIBRARIES - self.weight_bytes if on_cpu else None)

    @property
    def weight_bytes(self) -> int:
        """Bytes that its weights and buffers take, shared ones once."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        storages = [tensor.as_subclass(Tensor).untyped_storage() for tensor in tensors]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        keep: int | Callable[[Tensor], Tensor] | None = None,
        **options,
    ) -> Tensor:
        """Logits [item, position, token] of right-padded sequences.

        Args:
            keep: at which positions: the last so many, or what a function makes of [item, position, ...]; None for all.
                The output layer computes no others: logits of a whole prompt are large.
        """
        options.setdefault("use_cache", False)
        choose = (lambda values: values[:, -keep:]) if isinstance(keep, int) else keep
        with self._output_layer_on(choose, input_ids.shape) as chosen:
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **options).logits
        return out if choose is None or chosen else choose(out)

    @contextmanager
    def _output_layer_on(self, choose: Callable[[Tensor], Tensor] | None, shape: torch.Size) -> Iterator[list[bool]]:
        """While open, the output layer gets only what `choose` makes of [*shape, hidden].

        Yields:
            a list that is empty until the output layer was reached that way.
        """
        layer, chosen = self.model.get_output_embeddings(), []
        if choose is None or layer is None:
            yield chosen
            return

        def hook(_module, args):
            if args[0].shape[:-1] != shape:
                return None
            chosen.append(True)
            return (choose(args[0]), *args[1:])

        handle = layer.register_forward_pre_hook(hook)
        try:
            yield chosen
        finally:
            handle.remove()

    @cached_property
    def cache_name(self) -> str | None:
        """Name under which the model returns its keys and values and accepts them again; None if it keeps none.

        Read from what a pass returns: transformers has renamed the argument (`past_key_values`, `cache`) before.
        """
        return self._kept[0]

    @property
    def cache_type(self) -> type | None:
        """Class of what it returns under that name."""
        return self._kept[1]

    @cached_property
    def _kept(self) -> tuple[str | None, type | None]:
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
        found = ((name, type(value)) for name, value in output.items() if isinstance(value, Cache))
        return next(found, (None, None))

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens with which the model ends a text, by its generation_config.json."""
        named = getattr(self.model.generation_config, "eos_token_id", None)
        return frozenset([] if named is None else [named] if isinstance(named, int) else named)

    @contextmanager
    def edit_head_outputs(self, edits: dict[int, Callable[[Tensor], Tensor]]) -> Iterator[None]:
        """While open, `edits[layer]` maps that layer's head outputs [item, position, head, d_head] to new ones."""
        with ExitStack() as stack:
            for layer, edit in edits.items():
                attention = self.attentions[layer]

                def hook(_module, args, attention=attention, edit=edit):
                    return (edit(attention.split(args[0])).flatten(-2), *args[1:])

                handle = attention.projection.register_forward_pre_hook(hook)
                stack.callback(handle.remove)
            yield


def find_heads(model: nn.Module, name: str = "model") -> HeadModel:
    """Find every layer's heads and its output projection, proven on a forward pass (see `head_proof`).

    Raises:
        HeadAtlasError: no attention, heads that cannot be proven, layers that differ in their heads, weights that give
            NaN, a model that looks ahead or runs a layer more than once.
    """
    model.eval().requires_grad_(False)
    with torch.no_grad():
        calls = _layer_calls(model, name)
        attentions = [_attention(call, name) if call.calls or call.patterns else None for call in calls]
    shapes = {(attention.n_heads, attention.d_head) for attention in attentions if attention}
    if len(shapes) != 1:
        raise HeadAtlasError(f"model {name}: layers differ in (heads, head width): {sorted(shapes)}; not supported")
    return HeadModel(model, attentions, name)


def _layer_calls(model: nn.Module, name: str) -> list[LayerCall]:
    """The calls of the layers in the module list (or lists) with attention, in order of execution.

    A fixed random sequence is passed twice with different last tokens, to check that nothing looks ahead.
    """
    if not outermost_layers(model):
        raise HeadAtlasError(f"model {name}: holds no list of layers in which heads could be; {NO_ATTENTION}")
    embeddings = model.get_input_embeddings()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, embeddings.weight.shape[0], (1, PROBE_TOKENS), generator=generator).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % embeddings.weight.shape[0]
    ids = ids.to(embeddings.weight.device)
    with watch_layers(model, PROBE_TOKENS) as calls:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    _check_logits(logits, name)
    if any(call.calls for call in calls):  # if there are attention functions, other softmaxes are not attention
        calls = [replace(call, patterns=[]) for call in calls]
    lists = {call.name.rpartition(".")[0] for call in calls if call.calls or call.patterns}
    if not lists:
        raise HeadAtlasError(
            f"model {name}: in a forward pass nothing in its layers mixes positions with attention "
            f"weights (a state-space, convolutional or recurrent model?); {NO_ATTENTION}"
        )
    calls = [call for call in calls if call.name.rpartition(".")[0] in lists]
    if repeated := [layer for layer, times in Counter(call.name for call in calls).items() if times > 1]:
        raise HeadAtlasError(
            f"model {name}: {repeated[0]} runs {sum(call.name == repeated[0] for call in calls)} times in one pass; "
            "looped models are not supported, because a head has several outputs there"
        )
    return calls


def _check_logits(logits: Tensor, name: str) -> None:
    """Refuse logits [2, position, token] that are not finite, or whose last token changes what comes before it."""
    if not bool(torch.isfinite(logits).all()):
        raise HeadAtlasError(
            f"model {name}: the logits of a probe sequence are not finite; the weights hold NaN or infinity, "
            "or overflow in this dtype (try dtype: float32)"
        )
    before = logits[:, :-1].float()
    if (before[0] - before[1]).abs().max() > EQUAL[logits.dtype] * before.abs().max():
        raise HeadAtlasError(
            f"model {name}: another last token changes what the model says before it, so it is not causal "
            "(an encoder?); give a causal language model"
        )


def _attention(call: LayerCall, name: str) -> Attention:
    proof = prove(call, name)
    path, module = _around_projection(call, proof.projection)
    attention = Attention(
        f"{call.name}.{path}".rstrip("."),
        call.layer,
        module,
        proof.projection.module,
        proof.n_heads,
        proof.d_head,
        proof.between,
        proof.by,
    )
    _check_contributions(attention, proof.projection.input, proof.projection.output, name)
    return attention


def _around_projection(call: LayerCall, projection: LinearCall) -> tuple[str, nn.Module | None]:
    """(path in the layer, module) of the smallest module around the projection that outputs what it does.

    Its output is the projection's, or that plus one of the module's inputs (BLOOM adds the residual inside).
    If there is none, the module is None and the path is that of the projection's parent.
    """
    path = next(path for path, module in call.layer.named_modules() if module is projection.module)
    above = [path.rsplit(".", depth)[0] for depth in range(1, path.count(".") + 1)]
    calls = record_calls(call, [call.layer.get_submodule(part) for part in above])
    for part in above:
        module = call.layer.get_submodule(part)
        if module in calls and _adds_an_input(*calls[module], projection.output):
            return part, module
    return path.rpartition(".")[0], None


def _adds_an_input(inputs: list[Tensor], output: Tensor, projected: Tensor) -> bool:
    """Whether a module outputs what its projection does, possibly plus one of the module's inputs."""
    if projected.numel() != output.numel():
        return False
    projected = projected.reshape(output.shape)
    return torch.allclose(projected, output, rtol=1e-3, atol=1e-5) or any(
        value.shape == output.shape and torch.allclose(projected + value, output, rtol=1e-3, atol=1e-5)
        for value in inputs
    )


def contribution_error(attention: Attention, z: Tensor, output: Tensor) -> float:
    """Largest difference between all heads' summed contributions (plus bias) and `output`, relative to its size.

    Args:
        z: [item, position, head * d_head], the projection's input.
        output: [item, position, hidden], the attention output to which the heads should add up.
    """
    heads = attention.split(z.reshape(*output.shape[:-1], -1)).float()
    parts = torch.einsum("...hd,hdo->...ho", heads, attention.weight.float())
    total = parts.sum(-2)
    bias = getattr(attention.projection, "bias", None)
    if bias is not None:
        total = total + bias.float()
    scale = parts.abs().amax().clamp_min(torch.finfo(torch.float32).tiny)
    return float((total - output.float()).abs().max() / scale)


def _check_contributions(attention: Attention, z: Tensor, output: Tensor, name: str) -> None:
    error = contribution_error(attention, z, output)
    if not math.isfinite(error) or error > EQUAL[output.dtype]:
        raise HeadAtlasError(
            f"model {name}: in {attention.name} the contributions of {attention.n_heads} heads of width "
            f"{attention.d_head} should add up to the attention output, but differ from it by {error:.2g} of its size"
        )
