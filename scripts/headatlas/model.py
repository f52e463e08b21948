"""Loads a causal language model and finds its attention heads by structure, not by a list of names.

Knows modules, projections and hooks; knows nothing of tasks, baselines or methods.
"""

import inspect
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Cache, PreTrainedModel

from headatlas.errors import HeadAtlasError
from headatlas.job import log
from headatlas.precision import compute_in_float32, kept_in

PROBE_TOKENS = 6  # positions of the random sequence with which heads are looked for and checked
# Largest relative error between the heads' summed contributions and the attention output, per dtype.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 6e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class Attention:
    """One layer's attention as found in the loaded model.

    The input of `projection` is the concatenation of the head outputs `z`, `n_heads` slices of `d_head`.
    """

    name: str
    layer: nn.Module
    module: nn.Module
    projection: nn.Module
    n_heads: int
    d_head: int

    def split(self, z: Tensor) -> Tensor:
        """[..., n_heads * d_head] -> [..., head, d_head]."""
        return z.unflatten(-1, (self.n_heads, self.d_head))

    @cached_property
    def weight(self) -> Tensor:
        """[head, d_head, hidden]: what each head's output is multiplied with on its way to the residual stream."""
        weight = self.projection.weight.detach()
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
    """A causal language model whose heads are known, one `Attention` per layer, in order of execution.

    It computes in float32, whatever its weights are kept in; where it cannot, `half_because` says why.
    """

    model: PreTrainedModel
    attentions: list[Attention]
    name: str = "model"
    half_because: str | None = None

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.attentions)

    @property
    def n_heads(self) -> int:
        """Number of query heads per layer (the same in every layer)."""
        return self.attentions[0].n_heads

    @property
    def d_head(self) -> int:
        """Width of one head's output."""
        return self.attentions[0].d_head

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        return self.model.get_input_embeddings().weight.device

    @property
    def kept_in(self) -> torch.dtype:
        """What its weights are kept in."""
        return kept_in(self.model.get_input_embeddings().weight)

    @property
    def arithmetic(self) -> torch.dtype:
        """What it computes in: float32 also with half-precision weights, but where `half_because` says why not."""
        return self.model.get_input_embeddings().weight.dtype

    @property
    def devices(self) -> set[torch.device]:
        """Where its weights are."""
        return {parameter.device for parameter in self.model.parameters()}

    def logits(self, input_ids: Tensor, attention_mask: Tensor, keep: int | None = None, **options) -> Tensor:
        """Logits [item, position, token] of right-padded sequences; the last `keep` positions only, if given."""
        options.setdefault("use_cache", False)
        with self._output_layer_on_last(keep):
            out = self.model(input_ids=input_ids, attention_mask=attention_mask, **options).logits
        return out if keep is None else out[:, -keep:]

    @contextmanager
    def _output_layer_on_last(self, keep: int | None) -> Iterator[None]:
        """While open, the output layer gets the last `keep` positions only: logits of a whole prompt are large."""
        layer = self.model.get_output_embeddings()
        if keep is None or layer is None:
            yield
            return
        handle = layer.register_forward_pre_hook(lambda _module, args: (args[0][:, -keep:], *args[1:]))
        try:
            yield
        finally:
            handle.remove()

    @cached_property
    def cache_name(self) -> str | None:
        """Name under which the model returns its keys and values, and takes them back; None where it keeps none.

        Read from what a pass returns: transformers has renamed the argument (`past_key_values`, `cache`) before.
        """
        ids = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            output = self.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True)
        return next((name for name, value in output.items() if isinstance(value, Cache)), None)

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


def load_model(settings: dict, device: str = "cpu") -> HeadModel:
    """Load a local folder or hub id and find its heads.

    Args:
        settings: `path`, and optionally `revision`, `dtype`, `attn_implementation`, `trust_remote_code` as in
            the config.
        device: where to put it; `spread` lays its layers over all visible GPUs.

    Raises:
        HeadAtlasError: the model cannot be loaded from safetensors, is not causal, or its heads are not found.
    """
    path = settings["path"]
    # Weights go straight to the device: the host never holds a second copy of them.
    options = {} if device == "cpu" else {"device_map": "auto" if device == "spread" else device}
    # Of weights, `_check_weights` says it; the others warn of a plan for several GPUs that is not followed here.
    for quiet in ("modeling_utils", "distributed.tensor_parallel"):
        logging.getLogger(f"transformers.{quiet}").setLevel(logging.ERROR)
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            path,
            revision=settings.get("revision") or "main",
            dtype=getattr(torch, settings.get("dtype") or "float32"),
            attn_implementation=settings.get("attn_implementation"),
            trust_remote_code=settings.get("trust_remote_code", False),
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError, ... for bad folders
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())
        raise HeadAtlasError(f"model {path}: cannot be loaded as a causal language model: {reason}") from error
    _check_weights(loaded, str(path))
    half_because = compute_in_float32(model)
    if half_because:
        log.warning(
            "model %s: computes in %s and not in float32, so small effects are lost in rounding: %s",
            path, settings["dtype"], half_because,
        )  # fmt: skip
    found = find_heads(model, str(path))
    found.half_because = half_because
    return found


def _check_weights(loaded: dict, path: str) -> None:
    """Refuse weights that do not fill the model: transformers would leave the rest to chance."""
    for name, found, wanted in sorted(loaded["mismatched_keys"]):
        raise HeadAtlasError(
            f"model {path}: the weights hold {name} as {tuple(found)}, where config.json wants {tuple(wanted)}; "
            "get both of the same model"
        )
    if missing := sorted(loaded["missing_keys"]):
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise HeadAtlasError(f"model {path}: the weights lack {missing[0]}{others}; get all files of the model again")
    if spare := sorted(loaded["unexpected_keys"]):
        log.warning("model %s: %d tensors of the weights have no place in it (%s, ...)", path, len(spare), spare[0])


def find_heads(model: nn.Module, name: str = "model") -> HeadModel:
    """Find every layer's output projection by structure and check it on a forward pass.

    An attention module is an innermost module whose `forward` takes an `attention_mask`; its output projection
    is the last linear map in it whose output is the attention output (or that plus one of the module's
    inputs, where a family adds the residual inside, as BLOOM does).

    Raises:
        HeadAtlasError: no such structure, heads that do not fit it, weights that give NaN, a model that looks ahead.
    """
    model.eval().requires_grad_(False)
    candidates = _attention_modules(model)
    if not candidates:
        raise HeadAtlasError(
            f"model {name}: looked for modules that take an attention_mask and hold a linear map, found none"
        )
    with torch.no_grad():
        calls = _record_calls(model, candidates, name)
    attentions = [_attention(model, module_name, module, calls, name) for module_name, module in candidates.items()]
    shapes = {(attention.n_heads, attention.d_head) for attention in attentions}
    if len(shapes) != 1:
        raise HeadAtlasError(f"model {name}: layers differ in (heads, head width): {sorted(shapes)}; not supported")
    return HeadModel(model, attentions, name)


def _attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Innermost modules that take an attention mask and hold a linear map, by name."""
    takes_mask = {
        name: module
        for name, module in model.named_modules()
        if name and "attention_mask" in inspect.signature(module.forward).parameters
    }
    return {
        name: module
        for name, module in takes_mask.items()
        if not any(other.startswith(f"{name}.") for other in takes_mask)
        and any(_is_linear(part) for part in module.modules())
    }


def _is_linear(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and not isinstance(module, nn.Embedding)


def _record_calls(model: nn.Module, candidates: dict[str, nn.Module], name: str) -> dict[nn.Module, tuple]:
    """module -> (inputs, output) of the candidates and their linear maps, on a fixed random sequence.

    It is passed twice, with two different last tokens, to see that nothing looks ahead.
    """
    calls: dict[nn.Module, tuple] = {}

    def hook(module, args, kwargs, output):
        # Modules called again (shared weights) keep their last call; dict order is order of execution.
        calls.pop(module, None)
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        calls[module] = (inputs, output[0] if isinstance(output, tuple) else output)

    watched = {part for module in candidates.values() for part in (module, *filter(_is_linear, module.modules()))}
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in watched]
    embeddings = model.get_input_embeddings().weight
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, embeddings.shape[0], (1, PROBE_TOKENS), generator=generator).repeat(2, 1)
    ids[1, -1] = (ids[1, -1] + 1) % embeddings.shape[0]
    ids = ids.to(embeddings.device)
    try:
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    if not bool(torch.isfinite(logits).all()):
        raise HeadAtlasError(
            f"model {name}: the logits of a probe sequence are not finite; the weights hold NaN or infinity, "
            "or overflow in this dtype (try dtype: float32)"
        )
    before = logits[:, :-1].float()
    if (before[0] - before[1]).abs().max() > TOLERANCE[logits.dtype] * before.abs().max():
        raise HeadAtlasError(
            f"model {name}: another last token changes what the model says before it, so it is not causal "
            "(an encoder?); give a causal language model"
        )
    return calls


def _attention(model: nn.Module, module_name: str, module: nn.Module, calls: dict, name: str) -> Attention:
    if module not in calls:
        raise HeadAtlasError(f"model {name}: {module_name} takes an attention_mask but took no part in a forward pass")
    inputs, output = calls[module]
    linear = {part: calls[part] for part in module.modules() if part is not module and part in calls}
    for projection in sorted(linear, key=list(calls).index, reverse=True):
        (z, *_), projected = linear[projection]
        offset = _offset(output, projected, inputs)
        if offset is not None:
            break
    else:
        raise HeadAtlasError(
            f"model {name}: looked in {module_name} for a linear map whose output is the attention output "
            f"{tuple(output.shape)}; found {[part.__class__.__name__ for part in linear]} with none that fits"
        )
    n_heads, d_head = _head_shape(model, module, z.shape[-1], f"model {name}: {module_name}")
    attention = Attention(module_name, _layer_of(model, module_name, name), module, projection, n_heads, d_head)
    _check_contributions(attention, z, output - offset, name)
    return attention


def _offset(output: Tensor, projected: Tensor, inputs: list[Tensor]) -> Tensor | None:
    """What the attention module adds to its projection's output: nothing, or one of its inputs; else None."""
    if projected.numel() != output.numel():
        return None
    projected = projected.reshape(output.shape)
    if torch.equal(projected, output):
        return torch.zeros_like(output)
    for value in inputs:
        if value.shape == output.shape and torch.allclose(projected + value, output, rtol=1e-3, atol=1e-5):
            return value
    return None


def _head_shape(model: nn.Module, module: nn.Module, width: int, where: str) -> tuple[int, int]:
    """(n_heads, d_head) of one attention module, from the module's own attributes, else from the config."""
    config = model.config.get_text_config()
    for owner in (module, config):
        for attribute in ("num_attention_heads", "num_heads", "n_head", "n_heads"):
            n_heads = getattr(owner, attribute, None)
            if isinstance(n_heads, int) and n_heads > 0 and width % n_heads == 0:
                d_head = width // n_heads
                stated = getattr(module, "head_dim", None) or getattr(module, "head_size", None) or d_head
                if stated != d_head:
                    raise HeadAtlasError(
                        f"{where}: {n_heads} heads of width {stated} expected, but the output projection takes {width}"
                    )
                return n_heads, d_head
    raise HeadAtlasError(f"{where}: found no number of heads that divides the output projection's input, {width}")


def _layer_of(model: nn.Module, module_name: str, name: str) -> nn.Module:
    """The decoder layer around an attention module: its outermost ancestor that stands in a ModuleList."""
    parts = module_name.split(".")
    for end in range(1, len(parts)):
        if isinstance(model.get_submodule(".".join(parts[:end])), nn.ModuleList):
            return model.get_submodule(".".join(parts[: end + 1]))
    raise HeadAtlasError(f"model {name}: {module_name} does not stand in a list of layers")


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
    if not math.isfinite(error) or error > TOLERANCE[output.dtype]:
        raise HeadAtlasError(
            f"model {name}: in {attention.name} the contributions of {attention.n_heads} heads of width "
            f"{attention.d_head} should add up to the attention output, but differ from it by {error:.2g} of its size"
        )
