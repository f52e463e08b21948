"""Keeps a model's weights in half precision and computes with them in float32.

Matrices keep the format in which they were loaded (bfloat16 or float16); embedding outputs, the residual stream, norms,
attention and logits are float32. A head's effect is then not lost when the stream is rounded, and the weights take no
more memory. Knows tensors and modules; nothing about heads, tasks or families.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils._pytree import tree_map

HALVES = (torch.bfloat16, torch.float16)
# Operations that inspect or rearrange a weight; all others compute with its values.
STRUCTURE = {
    "__get__", "__set__", "__len__", "__hash__", "__repr__", "__format__", "__getitem__", "__setitem__", "as_subclass",
    "chunk", "contiguous", "cpu", "cuda", "data_ptr", "detach", "dim", "element_size", "expand", "flatten", "float",
    "get_device", "index_select", "is_contiguous", "is_floating_point", "narrow", "nelement", "numel", "permute",
    "reshape", "size", "split", "squeeze", "storage_offset", "stride", "t", "to", "transpose", "unbind", "unflatten",
    "unsqueeze", "untyped_storage", "view",
}  # fmt: skip


class HalfWeight(Tensor):
    """A weight kept in half precision that behaves as float32 in every computation and in `dtype`.

    Each operation gets a temporary float32 copy, and a backward pass makes it again. On a GPU a matrix product uses the
    weight directly (see `product`).
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Run one operation on it."""
        kwargs = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func == Tensor.dtype.__get__:
                return torch.float32
            name = getattr(func, "__name__", "")
            if name in STRUCTURE or (name.endswith("_") and not name.startswith("__") and isinstance(args[0], cls)):
                return tree_map(lambda leaf: _marked(leaf, cls), func(*args, **kwargs))
            if func is functional.embedding:
                return func(*args, **kwargs).float()
            if name == "linear":
                return _linear(*args, **kwargs)
            if name == "addmm" and not kwargs and not isinstance(args[0], cls):
                return product(args[1], args[2]) + args[0]
            if name in ("matmul", "mm", "__matmul__") and not isinstance(args[0], cls) and args[1].ndim == 2:
                return product(args[0], args[1])
            return _widened(func, args, kwargs)


def _marked(leaf, cls: type):
    return leaf.as_subclass(cls) if isinstance(leaf, Tensor) and leaf.dtype in HALVES else leaf


def _linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found = product(values, weight.t())
    return found if bias is None else found + bias


def _widened(func: Callable, args: tuple, kwargs: dict):
    """Call `func` with every half weight in float32; a backward pass keeps the half weights, not the float32 copies."""
    copies: dict[int, Tensor] = {}  # address of a float32 copy -> the weight

    def widen(leaf):
        if not isinstance(leaf, Tensor) or leaf.dtype not in HALVES:
            return leaf
        wide = leaf.float()
        copies[wide.untyped_storage().data_ptr()] = leaf
        return wide

    def pack(tensor: Tensor):
        weight = copies.get(tensor.untyped_storage().data_ptr())
        return tensor if weight is None else (weight, tensor.size(), tensor.stride(), tensor.storage_offset())

    def unpack(packed) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch._C.DisableTorchFunctionSubclass():
            return packed[0].float().as_strided(*packed[1:])

    args, kwargs = tree_map(widen, args), tree_map(widen, kwargs)
    with saved_tensors_hooks(pack, unpack) if torch.is_grad_enabled() else nullcontext():
        return func(*args, **kwargs)


# --- models --------------------------------------------------------------------------------------------------


def compute_in_float32(model: nn.Module) -> str | None:
    """Let a model loaded in half precision compute in float32 from its half-precision weights.

    Matrices become `HalfWeight`, tied ones stay tied; vectors (norms, biases) and buffers become float32.

    Returns:
        why it was not possible and the model is unchanged; None if it was done, or the model is float32 anyway.
    """
    halves = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in HALVES]
    if not halves:
        return None
    if any(tensor.device.type == "meta" for tensor in halves):
        return "part of its weights does not fit on the device"
    kind = getattr(model.config.get_text_config(), "_attn_implementation", None)
    if kind not in (None, "eager", "sdpa"):
        return f"attn_implementation {kind} supports only half precision (sdpa supports both)"
    device = model.get_input_embeddings().weight.device
    if device.type == "cuda" and not multiplies_halves(device):
        return f"torch {torch.__version__} has no half-precision matrix product with a float32 result (torch 2.8 has)"
    undo = _hold(model)
    ids = torch.zeros(1, 2, dtype=torch.long, device=device)
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    except (RuntimeError, TypeError) as error:  # its code mixes float32 with another dtype
        undo()
        return " ".join(str(error).split())[:200]
    if logits.dtype != torch.float32:
        undo()
        return f"its code turns float32 into {logits.dtype}"
    return None


def weights_in_half(model: nn.Module) -> bool:
    """Whether any weights are kept in half precision, whatever the arithmetic of the model."""
    return any(kept_in(parameter) in HALVES for parameter in model.parameters())


def kept_in(weight: Tensor) -> torch.dtype:
    """The number format in which a weight is kept; its `dtype` is that of computations."""
    return weight.as_subclass(Tensor).dtype if isinstance(weight, HalfWeight) else weight.dtype


@contextmanager
def float32_reference(model: nn.Module) -> Iterator[None]:
    """While open, the model computes exactly in float32 from its own weights: the reference for its noise.

    Weights become float32 one operation at a time, so there is never a second copy of the model.
    """
    global _exact
    before, undo = _exact, _hold(model)
    _exact = True
    try:
        yield
    finally:
        _exact = before
        undo()


def _hold(model: nn.Module) -> Callable[[], None]:
    """Put `HalfWeight`s and float32 vectors into the model; return a function that restores the old tensors."""
    before: list[tuple[nn.Module, str, Tensor]] = []
    held: dict[int, Tensor] = {}  # one per tensor that several modules share
    for module in model.modules():
        own = (module.named_parameters(recurse=False, remove_duplicate=False), module.named_buffers(recurse=False))
        for name, tensor in [pair for pairs in own for pair in pairs]:
            if tensor.dtype in HALVES:
                before.append((module, name, tensor))
                if id(tensor) not in held:
                    held[id(tensor)] = _held(tensor)
                setattr(module, name, held[id(tensor)])

    def undo() -> None:
        for module, name, tensor in before:
            setattr(module, name, tensor)

    return undo


def _held(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, nn.Parameter):
        return tensor.float()
    kept = tensor.detach().as_subclass(HalfWeight) if tensor.ndim > 1 else tensor.detach().float()
    return nn.Parameter(kept, requires_grad=False)


# --- products ------------------------------------------------------------------------------------------------

_exact = False  # whether products are exact everywhere (`float32_reference`)
_layout: tuple[int, ...] = ()  # groups, rows per group, positions per row of products' values (`side_by_side`)


@contextmanager
def side_by_side(groups: int, rows: int, *positions: int) -> Iterator[None]:
    """While open, products' values are [group, row, position, n], with rows similar to the first of their group.

    A product then rounds a row's *difference* from the first, not the row: small edits stay precise at the cost of
    half-precision products. The product is right for any rows, but less precise for rows that differ much.

    Args:
        positions: possible numbers of positions per row (the output layer may see fewer than the others); values of
            other sizes, such as those of an expert that takes some positions, are not rows.
    """
    global _layout
    before, _layout = _layout, (groups, rows, *positions)
    try:
        yield
    finally:
        _layout = before


def product(values: Tensor, weight: Tensor) -> Tensor:
    """values @ weight, [..., n] x [n, m] -> [..., m] float32, of a half-precision weight.

    On the CPU the weight becomes float32. On a GPU that would leave the fast units idle, so the values are split into
    two halves whose products with the weight are summed in float32 (`split_product`). Rows that are `side_by_side` cost
    one half-precision product (except float16 on the CPU, where it is slower than float32).
    """
    if _exact:
        return _widened(torch.matmul, (values, weight), {})
    if _in_rows(values) and (weight.dtype == torch.bfloat16 or multiplies_halves(weight.device)):
        return _product_of_rows(values, weight, *_layout[:2])
    return _one_product(values, weight)


def _in_rows(values: Tensor) -> bool:
    """Whether values are the rows announced by `side_by_side`."""
    if not _layout or _layout[1] == 1 or torch.is_grad_enabled():
        return False
    groups, rows, *positions = _layout
    return values.shape[:-1].numel() in {groups * rows * length for length in positions}


def _one_product(values: Tensor, weight: Tensor) -> Tensor:
    if multiplies_halves(weight.device):
        return SplitProduct.apply(values, weight)
    return _widened(torch.matmul, (values, weight), {})


def _product_of_rows(values: Tensor, weight: Tensor, groups: int, rows: int) -> Tensor:
    """The first row's product, plus the rounded product of each other row's difference from it."""
    apart = values.reshape(groups, rows, -1, values.shape[-1])
    first = _one_product(apart[:, :1], weight)
    high, scale = _rounded((apart[:, 1:] - apart[:, :1]).flatten(0, 2), weight.dtype)
    changed = torch.mm(high, weight)
    changed = (changed if scale is None else changed * scale).unflatten(0, (groups, rows - 1, -1))
    found = first.new_empty(groups, rows, *first.shape[2:])
    found[:, :1] = first
    found[:, 1:] = changed  # cast and added separately: one step for both is slower
    found[:, 1:] += first
    return found.reshape(*values.shape[:-1], -1)


def multiplies_halves(device: torch.device) -> bool:
    """Whether half-precision matrix products with a float32 result are available there (torch 2.8, CUDA)."""
    return device.type == "cuda" and tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)


class SplitProduct(torch.autograd.Function):
    """`split_product` of values [..., n] and a weight [n, m] without gradient."""

    @staticmethod
    def forward(ctx, values: Tensor, weight: Tensor) -> Tensor:
        """[..., m] float32."""
        ctx.save_for_backward(weight.as_subclass(Tensor))  # under which it reports its own dtype
        return split_product(values, weight)

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:
        """Gradient with respect to the values [..., n]."""
        (weight,) = ctx.saved_tensors
        return split_product(slope, weight.t()), None


def split_product(values: Tensor, weight: Tensor) -> Tensor:
    """values @ weight in float32 from half-precision products: each value is the sum of two halves, exact to 16 bits or
    more."""
    rows = values.reshape(-1, values.shape[-1])
    high, scale = _rounded(rows, weight.dtype)
    low = ((rows if scale is None else rows / scale) - high.float()).to(weight.dtype)
    found = half_product(high, weight) + half_product(low, weight)
    return (found if scale is None else found * scale).reshape(*values.shape[:-1], -1)


def _rounded(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Rows [row, n] in half precision, and their scale factors [row, 1].

    float16 (6e-8 to 65,504) is too narrow for some rows: each is divided by its largest value first.
    """
    if dtype == torch.bfloat16:
        return rows.to(dtype), None
    scale = rows.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return (rows / scale).to(dtype), scale


def half_product(values: Tensor, weight: Tensor) -> Tensor:
    """The product of two half-precision matrices, summed and returned in float32."""
    return torch.mm(values, weight, out_dtype=torch.float32)
