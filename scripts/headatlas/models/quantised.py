"""Computes in float32 with the weights that bitsandbytes keeps in 8 or 4 bits.

bitsandbytes itself also rounds what it multiplies: its 8-bit products (LLM.int8, Dettmers et al. 2022, arXiv
2208.07339) take 8 or 16 bits of the activations, in which small effects are lost. Here every product gets a copy of its
weights, expanded for this one operation, and a backward pass makes the copy again.
"""

from functools import partial

import torch
from torch import Tensor, nn

from headatlas.models.precision import HALVES, product

KINDS = ("Int8Params", "Params4bit")  # classes of bitsandbytes' weights


def is_quantised(module: nn.Module) -> bool:
    """Whether a linear map keeps its weights quantised."""
    return type(getattr(module, "weight", None)).__name__ in KINDS


def expanded(module: nn.Module) -> Tensor:
    """The weights [out, in] of a quantised linear map, in the format they were quantised from; float32 of 8 bits."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight  # imports bitsandbytes

    return dequantize_bnb_weight(module.weight, getattr(module, "state", None)).detach()


def compute_expanded(model: nn.Module) -> None:
    """Let every quantised linear map of a model multiply with its expanded weights."""
    for module in filter(is_quantised, model.modules()):
        module.forward = partial(_linear, module)


def _linear(module: nn.Module, values: Tensor) -> Tensor:
    found = ExpandedProduct.apply(values, module)
    return found if module.bias is None else found + module.bias


class ExpandedProduct(torch.autograd.Function):
    """The product of values [..., in] with the expanded weights of a linear map, without a gradient for these."""

    @staticmethod
    def forward(ctx, values: Tensor, module: nn.Module) -> Tensor:
        """[..., out] float32."""
        ctx.module = module
        return _times(values, expanded(module).t())

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        """Gradient with respect to the values [..., in]."""
        return _times(slope, expanded(ctx.module)), None


def _times(values: Tensor, weight: Tensor) -> Tensor:
    return product(values, weight) if weight.dtype in HALVES else values @ weight.to(values.dtype)
