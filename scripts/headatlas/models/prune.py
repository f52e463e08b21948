"""Cuts silent heads out of a model, so that its projections become smaller.

transformers reads one number of heads for all layers from config.json, and in some families their width. So every layer
has to lose as many heads, and heads that share keys and values cannot go one by one. Some families (Llama, Gemma) even
demand that the number of heads divides the hidden size.
"""

import copy

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from headatlas.errors import HeadAtlasError
from headatlas.models.head_model import Attention, HeadModel
from headatlas.models.hooked import Heads


def prune(model: HeadModel, heads: Heads) -> None:
    """Cut heads that contribute nothing (`bake.silence`) out of queries, keys, values and output projection, in place.

    The model runs only when it is loaded again: its modules still have the old number of heads.

    Raises:
        HeadAtlasError: layers lose different numbers of heads, or all; projections that cannot be cut; a config that
            cannot say how many heads are left.
    """
    gone = {layer: sorted(head for edited, head in heads if edited == layer) for layer in model.attention_layers}
    numbers = {len(lost) for lost in gone.values()}
    if len(numbers) > 1 or model.n_heads in numbers:
        least, most = (pick(gone, key=lambda layer: len(gone[layer])) for pick in (min, max))
        raise HeadAtlasError(
            f"model {model.name}: its config has one number of heads for all layers, so each must lose as many, and "
            f"not all; layer {least} would lose {len(gone[least])}, layer {most} {len(gone[most])}; list as many heads "
            "of each layer, or do not prune"
        )
    config = copy.deepcopy(model.model.config)
    left = model.n_heads - numbers.pop()
    for layer, lost in gone.items():
        attention = model.attentions[layer]
        kept = torch.tensor([head for head in range(model.n_heads) if head not in lost])
        for linear in _inputs(attention, model.name):
            _cut(linear, 0, kept, attention)
        _cut(attention.projection, 1, kept, attention)
    for key, value in {"num_attention_heads": left, "num_key_value_heads": left, "head_dim": model.d_head}.items():
        if hasattr(config, key):
            setattr(config, key, value)
    _check_config(model, config)
    model.model.config = config


def _inputs(attention: Attention, name: str) -> list[nn.Linear]:
    """The projections to queries, keys and values."""
    parent = next(module for module in attention.layer.modules() if attention.projection in module.children())
    rows = attention.n_heads * attention.d_head
    others = [
        child for child in parent.children() if isinstance(child, nn.Linear) and child is not attention.projection
    ]
    if [linear.out_features for linear in others] != [rows] * 3 or not isinstance(attention.projection, nn.Linear):
        raise HeadAtlasError(
            f"model {name}: {attention.name} has no queries, keys and values of its own for each head in three linear "
            "layers (heads share keys and values, or a family computes all three at once), so no head can be cut out; "
            "do not prune"
        )
    return others


def _cut(linear: nn.Linear, dimension: int, kept: torch.Tensor, attention: Attention) -> None:
    """Keep these heads' rows (dimension 0) or columns (1) of a weight, and their entries of a bias beside the rows."""

    def cut(values: torch.Tensor, dim: int) -> nn.Parameter:
        heads = values.detach().unflatten(dim, (attention.n_heads, attention.d_head))
        cut = heads.index_select(dim, kept.to(values.device)).flatten(dim, dim + 1)
        return nn.Parameter(cut.contiguous(), requires_grad=False)

    linear.weight = cut(linear.weight, dimension)
    if linear.bias is not None and dimension == 0:
        linear.bias = cut(linear.bias, 0)


def _check_config(model: HeadModel, config: PreTrainedConfig) -> None:
    """Refuse a config that transformers does not accept, or from which it builds a model of another shape."""
    kind = type(model.model)
    try:
        with torch.device("meta"):
            built = _shapes(kind(type(config).from_dict(config.to_dict())))
    except Exception as error:  # ValueError of a model, or errors of huggingface_hub, which checks configs
        reason = " ".join(str(error).split())
        raise HeadAtlasError(
            f"model {model.name}: transformers accepts no {kind.__name__} with {config.num_attention_heads} heads: "
            f"{reason}; take another number of heads, or do not prune"
        ) from error
    own = _shapes(model.model)
    if wrong := next((name for name in own if built.get(name) != own[name]), None):
        raise HeadAtlasError(
            f"model {model.name}: with {config.num_attention_heads} heads {kind.__name__} has another shape of "
            f"{wrong}, so its config cannot say that heads are missing; do not prune"
        )


def _shapes(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
