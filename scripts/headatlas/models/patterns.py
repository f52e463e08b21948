"""Reads the attention weights (patterns) of a loaded model's heads, one layer at a time.

The weights are those with which the model really mixes positions, whichever attention kernel it runs: the attention
function gets unit vectors in place of the values, so what it returns are its weights. No kernel that returns weights
(eager attention) is needed, and none is switched on. Of a family with attention code of its own, the softmax is read.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from headatlas.errors import HeadAtlasError
from headatlas.models.batches import Batch
from headatlas.models.head_model import HeadModel
from headatlas.models.head_proof import EQUAL, SDPA, SOFTMAX, attention_functions

Read = Callable[[int, Tensor], None]


def read_patterns(
    model: HeadModel, batch: Batch, read: Read, queries: Tensor | None = None, layers: list[int] | None = None
) -> None:
    """Run a batch once and hand over the attention weights of each layer as they arise.

    Only one layer's weights are held, and of the queries asked for: `read` should keep what it needs of them.

    Args:
        read: called as `read(layer, weights)` in order of layers, for layers with attention, with weights
            [item, head, query, key] float32. `key` runs over the positions of the padded batch. A real query's weights
            add up to 1 (to less in families whose softmax has a sink of its own, such as gpt-oss); keys in the padding
            get exactly 0, and so does every key of a query in the padding.
        queries: [item, query], the positions whose weights are wanted, such as `batch.positions`; None for all.
        layers: the layers wanted; None for all that have attention.

    Raises:
        HeadAtlasError: a layer whose weights cannot be told from what it computes.
    """
    with torch.no_grad(), watch_patterns(model, batch, read, queries, layers):
        model.logits(batch.input_ids, batch.attention_mask, keep=1)


@contextmanager
def watch_patterns(
    model: HeadModel, batch: Batch, read: Read, queries: Tensor | None = None, layers: list[int] | None = None
) -> Iterator[None]:
    """While open, every pass over the batch hands over its attention weights, as in `read_patterns`."""
    watch = _Watch(model, batch, read, queries)
    with ExitStack() as stack:
        stack.enter_context(_around_layers(model, layers, watch.enter, watch.leave))
        if any(attention and attention.proof == "attention weights" for attention in model.attentions):
            stack.enter_context(_OwnPatterns(batch.input_ids.shape[1], watch))
        stack.enter_context(attention_functions(watch.function))
        yield


@contextmanager
def watch_values(model: HeadModel, read: Read) -> Iterator[None]:
    """While open, every pass hands over the values that attention mixes.

    Args:
        read: called as `read(layer, values)` with values [item, key-value head, key, width], for layers whose attention
            goes through transformers' interface. Consecutive query heads share a key-value head.
    """
    running: list[int] = []

    def watched(function: Callable) -> Callable:
        def call(module, query, key, value, *args, **kwargs):
            if running:
                read(running[-1], value)
            return function(module, query, key, value, *args, **kwargs)

        return call

    with _around_layers(model, None, running.append, running.pop), attention_functions(watched):
        yield


@contextmanager
def _around_layers(
    model: HeadModel, layers: list[int] | None, enter: Callable[[int], None], leave: Callable[[], object]
) -> Iterator[None]:
    """While open, calls `enter(layer)` before each of these layers (None: all with attention), `leave()` after it."""

    def after(_module, _args, _output) -> None:
        leave()

    with ExitStack() as stack:
        for layer in model.attention_layers if layers is None else layers:
            module = model.attentions[layer].layer

            def before(_module, _args, layer=layer) -> None:
                enter(layer)

            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after).remove)
        yield


def unit_mixed(mix: Callable[[Tensor], Tensor], value: Tensor) -> Iterator[Tensor]:
    """What an attention function returns for unit vectors in place of the values, some keys at a time.

    Args:
        mix: the function of the values alone; value: [item, key-value head, key, width], its own values. The unit
            vectors are as wide, since a kernel may take no other width.
    """
    keys, width = value.shape[-2:]
    for first in range(0, keys, width):
        unit = torch.zeros(keys, width, dtype=value.dtype, device=value.device)
        index = torch.arange(min(width, keys - first), device=value.device)
        unit[first + index, index] = 1
        yield mix(unit.expand(value.shape).contiguous())[..., : len(index)]


class _Watch:
    """Which layer is running, and what becomes of its attention weights."""

    def __init__(self, model: HeadModel, batch: Batch, read: Read, queries: Tensor | None):
        self.model, self.batch, self.read, self.queries = model, batch, read, queries
        self.layer: int | None = None
        self.found = 0

    def enter(self, layer: int) -> None:
        self.layer, self.found = layer, 0

    def leave(self) -> None:
        if self.found != 1:
            raise HeadAtlasError(
                f"model {self.model.name}: {self.model.attentions[self.layer].name} computed attention weights "
                f"{self.found} times in one pass, so its heads' patterns cannot be told; switch off what asks for them"
            )
        self.layer = None

    def function(self, function: Callable) -> Callable:
        """An attention function of transformers' interface that hands over its weights when the layer is watched."""

        def call(module, query, key, value, *args, **kwargs):
            if self.layer is not None and self.model.attentions[self.layer].proof == "attention function":
                columns = unit_mixed(lambda unit: function(module, query, key, unit, *args, **kwargs)[0], value)
                # [item, query, head, key] -> [item, head, query, key]
                self.take([self.chosen(part.transpose(1, 2)) for part in columns])
            return function(module, query, key, value, *args, **kwargs)

        return call

    def chosen(self, weights: Tensor) -> Tensor:
        """[item, head, query, key] -> the queries asked for, in float32."""
        if self.queries is None:
            return weights.float()
        items = torch.arange(len(weights), device=weights.device)[:, None]
        return weights.transpose(1, 2)[items, self.queries.to(weights.device)].transpose(1, 2).float()

    def take(self, columns: list[Tensor]) -> None:
        """Hand over the weights of the current layer, given in blocks of keys."""
        self.found += 1
        weights = torch.cat(columns, dim=-1)
        self._check(weights)
        real = self.chosen(self.batch.attention_mask[:, None, :, None].to(weights.device))
        self.read(self.layer, weights * real)

    def _check(self, weights: Tensor) -> None:
        """Refuse what is no weighted mean of positions: negative weights, or a sum above 1."""
        slack = EQUAL[self.model.arithmetic]
        if not (bool((weights >= -slack).all()) and bool((weights.sum(-1) <= 1 + slack).all())):
            raise HeadAtlasError(
                f"model {self.model.name}: {self.model.attentions[self.layer].name} mixes positions with weights that "
                "are negative or add up to more than 1, so its heads' patterns cannot be told; switch off what asks "
                "for them"
            )


class _OwnPatterns(TorchFunctionMode):
    """Reads attention weights off the softmax of attention code outside transformers' interface."""

    def __init__(self, positions: int, watch: _Watch):
        super().__init__()
        self.positions, self.watch = positions, watch

    def __torch_function__(self, function, types, args=(), kwargs=None):
        """Look at softmax and scaled dot-product attention only."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        layer = self.watch.layer
        if layer is None or self.watch.model.attentions[layer].proof != "attention weights":
            return output
        square = (self.positions, self.positions)
        if function is SDPA and (args[0].shape[-2], args[1].shape[-2]) == square:
            columns = unit_mixed(lambda unit: SDPA(args[0], args[1], unit, *args[3:], **kwargs), args[2])
            self.watch.take([self.watch.chosen(part) for part in columns])
        elif function in SOFTMAX and output.ndim > 2 and output.shape[-2:] == square:
            heads = output.reshape(len(self.watch.batch), self.watch.model.n_heads, *square)
            self.watch.take([self.watch.chosen(heads)])
        return output
