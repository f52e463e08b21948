"""Reruns the layers above an edited head, for many edits at once, from one recorded clean pass.

Nothing below an edited layer is recomputed. The edited layer's own attention output is the clean one minus what the
edit removes. With edits at answer positions only, all rows of an item share the prompt's keys and values of the clean
pass. Replay records the layers' own `forward` calls and repeats them with reshaped arguments, so it is not specific to
any architecture; `engine` checks it against plain passes.

A row is one edited copy of an item; `layouts` arranges rows in the sequences that layers take.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from transformers import DynamicCache

from headatlas.models.batches import Batch, collate, score_answers
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads, heads_of_rows, mixture
from headatlas.models.layouts import RowsAsItems, RowsAsPositions, UnsupportedError
from headatlas.models.precision import side_by_side
from headatlas.models.replacement import Replacement
from headatlas.models.work import sequence_length

# Maximum number of query positions for the rows of one item in a sequence: attention between rows that do not see each
# other is wasted work and grows quadratically.
ROW_POSITIONS = 256


class _NoLayers(list):
    """Stands in for the layers of transformers' cache and raises when used."""

    def __getitem__(self, index):
        raise UnsupportedError("its layers read more from the cache than the keys and values they wrote")


class SharedCache(DynamicCache):
    """Keeps the clean pass's keys and values; later rows see them, followed by their own."""

    def __init__(self):
        super().__init__()
        self.layers = _NoLayers()
        self.clean: dict[int, tuple[Tensor, Tensor]] = {}
        self.mode = "record"  # record | extend

    def update(self, key_states, value_states, layer_idx, *_args, **_kwargs):
        """Keys and values [batch, head, position, width] that attention sees in layer `layer_idx`."""
        if self.mode == "record":
            self.clean[layer_idx] = (key_states, value_states)
            return key_states, value_states
        keys, values = self.clean[layer_idx]
        return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)


def _refuse(name: str) -> Callable:
    def method(*_args, **_kwargs):
        raise UnsupportedError(f"its layers keep more for later positions than keys and values ({name})")

    return method


# Rows would also need whatever else a family keeps there (an indexer's keys, a convolution's inputs).
for _name in dir(DynamicCache):
    if _name.startswith("update_"):
        setattr(SharedCache, _name, _refuse(_name))


class Replay:
    """A recorded clean pass over a batch, from which layers can be rerun for edited rows.

    Raises UnsupportedError if the model's layers cannot be rerun for rows.

    Args:
        batch: items padded to a length that differs from all of the model's dimensions (`replay_length`), on the
            device.
        positions: `answer` (edits act at the answer positions) or `all`.
        layers: layers whose heads will be edited.
    """

    def __init__(self, model: HeadModel, batch: Batch, positions: str, layers: range):
        self.model, self.batch, self.at_answers = model, batch, positions == "answer"
        _check_layers(model)
        self.layout = (RowsAsPositions if self.at_answers else RowsAsItems)(batch)
        self.cache = SharedCache()
        self.inputs: dict[int, Tensor] = {}  # layer -> its input at the rows' positions [item, position, hidden]
        self.attended: dict[int, Tensor] = {}  # layer -> its attention output there
        self.heads: dict[int, Tensor] = {}  # layer -> its head outputs there [item, position, head, d_head]
        self._calls: dict[int, tuple[tuple, dict]] = {}
        self._shapes: dict[nn.Module, int | None] = {}  # module -> length of the tuple it returns, if one
        options = {}
        if self.at_answers and model.cache_name:  # found by running the model, so before recording starts
            options = {model.cache_name: self.cache, "use_cache": True}
        with torch.no_grad(), ExitStack() as stack:
            self._record(stack, layers)
            model.logits(batch.input_ids, batch.attention_mask, keep=1, **options)
        if self.at_answers:
            if not self.cache.clean:
                raise UnsupportedError("its attention layers write no keys and values to the given cache")
            self.cache.mode = "extend"

    def _record(self, stack: ExitStack, layers: range) -> None:
        kept = self.layout.kept

        def on_layer(index: int) -> Callable:
            def hook(_module, args, kwargs):
                stream = args[0] if args else kwargs.get("hidden_states")
                if not isinstance(stream, Tensor) or stream.shape[:-1] != self.batch.input_ids.shape:
                    raise UnsupportedError("its layers do not take one residual stream [item, position, hidden]")
                # Every rerun gives the layer another stream, so the recorded one, which is large, is not kept.
                others = {name: value for name, value in kwargs.items() if value is not stream}
                self._calls[index] = ((None, *args[1:]) if args else (), others)
                if index in layers:
                    self.inputs[index] = kept(stream)

            return hook

        def on_output(index: int | None) -> Callable:
            def hook(module, _args, output):
                if not isinstance(output, Tensor | tuple):
                    raise UnsupportedError(f"its layers return a {type(output).__name__}, not a tensor or a tuple")
                self._shapes[module] = len(output) if isinstance(output, tuple) else None
                if index is not None:
                    self.attended[index] = kept(output[0] if isinstance(output, tuple) else output)

            return hook

        for index, attention in enumerate(self.model.attentions):
            if index < layers.start:
                continue
            stack.callback(attention.layer.register_forward_pre_hook(on_layer(index), with_kwargs=True).remove)
            stack.callback(attention.layer.register_forward_hook(on_output(None)).remove)
            if index in layers:
                stack.callback(attention.module.register_forward_hook(on_output(index)).remove)

                def keep_heads(_module, args, index=index, attention=attention):
                    self.heads[index] = kept(attention.split(args[0]))

                stack.callback(attention.projection.register_forward_pre_hook(keep_heads).remove)

    def scores(self, sets: list[Heads], replacement: Replacement, with_clean: bool = True) -> tuple[Tensor, Tensor]:
        """Answer score and correctness when all heads of a set output their replacement together.

        Args:
            sets: (layer, head) pairs of each row, rows in order of their lowest layer (empty sets last).
            with_clean: whether an unedited row comes first. Half-precision weights require it, because rounding is
                relative to it; it is computed like the others, so that all rows share its rounding.

        Returns:
            [item, row] float32 nats (`batches.score_answers`) and [item, row] bool; the unedited row first, if asked.
        """
        last = self.model.n_layers - 1
        entry = [min((layer for layer, _ in heads), default=last) for heads in sets]
        if with_clean:
            sets, entry = [[], *sets], [entry[0], *entry]
        rows: Tensor | None = None
        with torch.no_grad():
            for layer in range(entry[0], self.model.n_layers):
                parts = [] if rows is None else [self._run_rows(layer, rows, sets, replacement)]
                entering = [heads for heads, first in zip(sets, entry, strict=True) if first == layer]
                if entering:
                    parts.append(self._run_entering(layer, entering, replacement))
                rows = torch.cat(parts, dim=1)
            return self._scores(rows)

    def gated_scores(self, gates: Tensor, replacement: Replacement) -> Tensor:
        """Answer score when every head outputs a mixture: gate x its own output + (1 - gate) x its replacement.

        Unlike `scores`, it keeps the graph from the gates to the scores. The layers must have been recorded from the
        first on, with edits at answer positions, so that a row costs a pass over the answer positions alone.

        Args:
            gates: [item, row, layer, head], 0 to 1.

        Returns:
            [item, row] float32 nats (`batches.score_answers`).
        """
        rows = self.inputs[0][:, None].expand(-1, gates.shape[1], -1, -1)
        for layer in range(self.model.n_layers):
            with self.model.edit_head_outputs({layer: mixture(layer, gates, replacement)}):
                rows = self._run(layer, rows)
        return self._scores(rows)[0]

    def _run_rows(self, layer: int, rows: Tensor, sets: list[Heads], replacement: Replacement) -> Tensor:
        """Layer output of rows edited in lower layers; rows whose sets have heads here are edited again."""
        chosen = heads_of_rows(layer, sets[: rows.shape[1]], self.model.n_heads)
        if not chosen.any():
            return self._run(layer, rows)
        values, where = replacement.values(layer)[:, None], replacement.where
        mask = chosen[None, :, None, :, None]
        if where is not None:
            mask = mask.to(where.device) & where[:, None, :, None, None]

        def edit(z: Tensor) -> Tensor:
            shape = z.shape
            z = z.reshape(len(self.batch), rows.shape[1], self.layout.width, *shape[-2:])
            return torch.where(mask.to(z.device), values.to(z), z).reshape(shape)

        with self.model.edit_head_outputs({layer: edit}):
            return self._run(layer, rows)

    def _run_entering(self, layer: int, sets: list[Heads], replacement: Replacement) -> Tensor:
        """Layer output [item, row, position, hidden] of rows whose first edit is in this layer: attention is not
        rerun."""
        attention = self.model.attentions[layer]
        z, clean = self.heads[layer], self.attended[layer]
        chosen = heads_of_rows(layer, sets, self.model.n_heads).to(z.device)
        used = chosen.any(0).nonzero().flatten()
        change = (z - replacement.values(layer).to(z))[:, :, used]  # [item, position, head used, d_head]
        if replacement.where is not None:
            change = change * replacement.where.to(z.device)[:, :, None, None]
        lost = torch.einsum("iphd,hdo->ipho", change, attention.weight[used].to(z.dtype))
        taken = torch.einsum("rh,ipho->irpo", chosen[:, used].to(lost), lost)
        attended = torch.cat([clean[:, None], clean[:, None] - taken.to(clean.device)], dim=1)
        rows = self.inputs[layer][:, None].expand(-1, attended.shape[1], -1, -1)

        def forward(*_args, **_kwargs):
            return self._as_output(attention.module, self.layout.flat(attended))

        with patched(attention.module, forward):
            return self._run(layer, rows, fit=False)[:, 1:]  # rounding is relative to the first row, the unedited one

    def _run(self, layer: int, rows: Tensor, fit: bool = True) -> Tensor:
        """One layer on rows [item, row, position, hidden]; `fit` adapts its other arguments to the rows."""
        args, kwargs = self._calls[layer]
        laid_out = (lambda value: self.layout.fit(value, rows.shape[1])) if fit else (lambda value: value)
        hidden = self.layout.flat(rows)
        if args:
            args = (hidden, *(laid_out(value) for value in args[1:]))
        else:
            kwargs = kwargs | {"hidden_states": hidden}
        kwargs = {name: value if value is hidden else laid_out(value) for name, value in kwargs.items()}
        with side_by_side(*rows.shape[:3]):
            output = self._run_layer(layer, args, kwargs)
        return (output[0] if isinstance(output, tuple) else output).reshape(rows.shape)

    def _run_layer(self, layer: int, args: tuple, kwargs: dict):
        """The layer's own output; an error of its code is a reason not to replay."""
        try:
            return self.model.attentions[layer].layer(*args, **kwargs)
        except (RuntimeError, IndexError, ValueError) as error:
            if should_reduce_batch_size(error):
                raise
            said = " ".join(str(error).split())[:120]
            raise UnsupportedError(f"its layer {layer} cannot run side-by-side rows: {said}") from error

    def _as_output(self, module: nn.Module, value: Tensor):
        length = self._shapes[module]
        return value if length is None else (value, *[None] * (length - 1))

    def _scores(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Score and correctness [item, row] from the last layer's output [item, row, position, hidden]."""
        rows = self.batch.scored(self.layout.at_answers(rows).transpose(1, 2)).transpose(1, 2)
        with side_by_side(*rows.shape[:3]):
            logits = self._head(rows.flatten(0, 2)).unflatten(0, rows.shape[:3])
        return score_answers(logits, self.batch)

    def _head(self, hidden: Tensor) -> Tensor:
        """Logits [n, token] of last-layer outputs [n, hidden], by the model's own code after its last layer."""
        attentions = self.model.attentions
        first = min(self._calls)
        with ExitStack() as stack:
            for attention in attentions:
                last = attention is attentions[-1]
                shape_of = attention.layer if attention.layer in self._shapes else attentions[first].layer

                def forward(*args, last=last, shape_of=shape_of, **kwargs):
                    passed = args[0] if args else kwargs["hidden_states"]
                    return self._as_output(shape_of, hidden[:, None] if last else passed)

                stack.enter_context(patched(attention.layer, forward))
            ids = torch.zeros(len(hidden), 1, dtype=torch.long, device=self.model.device)
            return self.model.logits(ids, torch.ones_like(ids))[:, 0]


@contextmanager
def patched(module: nn.Module, forward: Callable) -> Iterator[None]:
    """While open, `module` computes `forward` instead of its own."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def replay_items(
    model: HeadModel, items: list[dict], rows: list[int], positions: str, layers: range, batch_tokens: int
) -> tuple[Replay, int]:
    """Record a clean pass over the items at `rows`; also return how many edited rows per item fit one pass.

    Args:
        positions, layers: as in `Replay`; batch_tokens: maximum number of positions in one pass, over all rows.
    """
    length = replay_length(model, max(sequence_length(items[row]) for row in rows))
    replay = Replay(model, collate(items, rows, length).to(model.device), positions, layers)
    most = max(1, batch_tokens // (len(rows) * replay.layout.width))
    return replay, min(most, max(1, ROW_POSITIONS // replay.layout.width)) if replay.at_answers else most


def replay_length(model: HeadModel, length: int) -> int:
    """The smallest length above `length` that is not a dimension of the model.

    This identifies the sequence dimension of layers' arguments; the extra padding also makes every family pass an
    explicit mask.
    """
    taken = {size for parameter in model.model.parameters() for size in parameter.shape}
    taken |= {model.n_heads, model.d_head, model.d_head // 2, 2 * model.d_head}
    length += 1
    while length in taken:
        length += 1
    return length


def _check_layers(model: HeadModel) -> None:
    """Raise UnsupportedError if layers cannot run side-by-side rows.

    That is the case if the attention implementation accepts no mask of ours (flash attention), if layers mix positions
    by other means (hybrid models), or if no module of a layer outputs the sum of its heads.
    """
    if model.layers_without_attention:
        raise UnsupportedError(f"layer {model.layers_without_attention[0]} mixes positions without attention")
    for attention in model.attentions:
        if attention.module is None:
            raise UnsupportedError(f"no module around {attention.name} outputs the sum of its heads")
    kind = getattr(model.model.config.get_text_config(), "_attn_implementation", None)
    if kind not in (None, "eager", "sdpa"):
        raise UnsupportedError(f"attn_implementation: {kind} accepts no custom mask; use sdpa or eager")
