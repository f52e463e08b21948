"""Runs the layers above an edited head again, for many edits at once, from what one clean pass left behind.

Nothing below an edited layer is recomputed, the edited layer's own attention is the clean one less what the
edit takes away, and with edits at answer positions only, the prompt's keys and values are those of the clean
pass, shared by all rows of an item. Works on the layers' own `forward` calls, recorded and repeated with their
arguments reshaped, so nothing here belongs to one architecture; `engine` checks it against plain passes.

A row is one edited copy of an item. Rows of an item are laid side by side as extra positions of one
sequence (edits at answer positions), each seeing the prompt and itself only, or as items of a larger batch
(edits at all positions).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from transformers import DynamicCache

from headatlas.models.batches import Batch, answer_log_probability, collate, exact_match, sequence_length
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import heads_of_rows
from headatlas.models.precision import side_by_side

# Most query positions that the rows of one item may take in one sequence: attention among rows that do not see
# each other is wasted and grows with the square.
ROW_POSITIONS = 256


class UnsupportedError(Exception):
    """Why a model's layers cannot be run again for edited rows; `engine` takes full passes instead, if it may."""


class _NoLayers(list):
    """What a cache of ours holds in the place of transformers' own: nothing that may be looked at."""

    def __getitem__(self, index):
        raise UnsupportedError("its layers look at more of the cache than the keys and values they put there")


class SharedCache(DynamicCache):
    """Keeps the clean pass's keys and values, and later shows them to rows followed by the rows' own."""

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


# What else a family may keep there (an indexer's keys, a convolution's inputs) would have to be shown to rows as well.
for _name in dir(DynamicCache):
    if _name.startswith("update_"):
        setattr(SharedCache, _name, _refuse(_name))


class Replay:
    """A recorded clean pass over a batch, from which layers can be run again for edited rows.

    Raises UnsupportedError where the model's layers cannot be run again for rows.

    Args:
        batch: items padded to a length that is none of the model's dimensions (`replay_length`), on the device.
        positions: `answer` (edits act at the answer positions) or `all`.
        layers: layers whose heads will be edited.
    """

    def __init__(self, model: HeadModel, batch: Batch, positions: str, layers: range):
        self.model, self.batch, self.at_answers = model, batch, positions == "answer"
        _check_layers(model)
        self.cache = SharedCache()
        self.inputs: dict[int, Tensor] = {}  # layer -> its input at the edited positions [item, position, hidden]
        self.attended: dict[int, Tensor] = {}  # layer -> its attention output there
        self.heads: dict[int, Tensor] = {}  # layer -> its head outputs there [item, position, head, d_head]
        self._calls: dict[int, tuple[tuple, dict]] = {}
        self._shapes: dict[nn.Module, int | None] = {}  # module -> length of the tuple it returns, if one
        self._masks: dict[tuple[int, int], Tensor] = {}
        options = {}
        if self.at_answers and model.cache_name:  # the name is found by running the model: before anything is recorded
            options = {model.cache_name: self.cache, "use_cache": True}
        with torch.no_grad(), ExitStack() as stack:
            self._record(stack, layers)
            model.logits(batch.input_ids, batch.attention_mask, keep=1, **options)
        if self.at_answers:
            if not self.cache.clean:
                raise UnsupportedError("its attention layers put no keys and values into the cache that they are given")
            self.cache.mode = "extend"

    @property
    def width(self) -> int:
        """Positions of one row: the answer positions, or the whole sequence."""
        return self.batch.positions.shape[1] if self.at_answers else self.batch.input_ids.shape[1]

    def _record(self, stack: ExitStack, layers: range) -> None:
        kept = self.batch.gather if self.at_answers else (lambda values: values)

        def on_layer(index: int) -> Callable:
            def hook(_module, args, kwargs):
                self._calls[index] = (args, kwargs)
                stream = args[0] if args else kwargs.get("hidden_states")
                if not isinstance(stream, Tensor) or stream.shape[:-1] != self.batch.input_ids.shape:
                    raise UnsupportedError("its layers do not take one residual stream [item, position, hidden]")
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

    def log_prob(
        self, edits: list[tuple[int, int]], baseline: Callable[[int], Tensor], with_clean: bool = True
    ) -> Tensor:
        """Answer log-probability when one head outputs its baseline, for many heads; and of the clean row if asked.

        Args:
            edits: (layer, head) of each row, sorted by layer.
            baseline: layer -> [1 or item, head, d_head].

        Returns:
            [item, 1 + row] float32, nats per answer token; column 0 is the unedited row, computed the same way
            so that rounding of a half-precision model is common to both. [item, row] if not `with_clean` (of a
            model with float32 weights: with half-precision ones the unedited row is what rounding goes by).
        """
        rows: Tensor | None = None
        first = edits[0][0]
        with torch.no_grad():
            for layer in range(first, self.model.n_layers):
                parts = [] if rows is None else [self._run(layer, rows)]
                heads = [head for edited, head in edits if edited == layer]
                if heads:
                    parts.append(self._run_edited(layer, heads, baseline(layer), with_clean and layer == first))
                rows = torch.cat(parts, dim=1)
            return self._scores(rows)[0]

    def scores_of_sets(
        self, sets: list[list[tuple[int, int]]], baseline: Callable[[int], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Answer log-probability and exact match when all heads of a set output their baselines together.

        Args:
            sets: (layer, head) pairs of each row, rows in order of their lowest layer (an empty set last).
            baseline: layer -> [1 or item, head, d_head].

        Returns:
            [item, row] float32 nats per answer token, and [item, row] bool.
        """
        last = self.model.n_layers - 1
        entry = [min((layer for layer, _ in heads), default=last) for heads in sets]
        # An unedited row goes first through all layers: with half-precision weights rounding goes by it.
        sets, entry = [[], *sets], [entry[0], *entry]
        rows: Tensor | None = None
        with torch.no_grad():
            for layer in range(entry[0], self.model.n_layers):
                clean = self.inputs[layer][:, None].expand(-1, entry.count(layer), -1, -1)
                rows = clean if rows is None else torch.cat([rows, clean.to(rows.device)], dim=1)
                edit = self._edit_of_rows(layer, sets[: rows.shape[1]], baseline(layer))
                with self.model.edit_head_outputs({layer: edit} if edit else {}):
                    rows = self._run(layer, rows)
            return tuple(score[:, 1:] for score in self._scores(rows))

    def _edit_of_rows(self, layer: int, sets: list[list[tuple[int, int]]], baseline: Tensor) -> Callable | None:
        """What replaces the heads of `layer` that are in each row's set; None where no set holds any."""
        chosen = heads_of_rows(layer, sets, self.model.n_heads)
        if not chosen.any():
            return None

        def edit(z: Tensor) -> Tensor:
            flat = z.shape
            z = z.reshape(len(self.batch), len(sets), self.width, *flat[-2:])
            where = chosen.to(z.device)[None, :, None, :, None]
            return torch.where(where, baseline.to(z)[:, None, None], z).reshape(flat)

        return edit

    def _run_edited(self, layer: int, heads: list[int], baseline: Tensor, with_clean: bool) -> Tensor:
        """Layer output [item, row, position, hidden] with one head per row replaced by its baseline."""
        attention = self.model.attentions[layer]
        z, clean = self.heads[layer], self.attended[layer]
        chosen = torch.tensor(heads, device=z.device)
        change = (z - baseline.to(z)[:, None])[:, :, chosen]  # [item, position, row, d_head]
        taken = torch.einsum("iprd,rdo->irpo", change, attention.weight[chosen].to(z.dtype))
        attended = clean[:, None] - taken.to(clean.device)
        attended = torch.cat([clean[:, None], attended], dim=1)  # the unedited row first, for the sake of rounding
        rows = self.inputs[layer][:, None].expand(-1, attended.shape[1], -1, -1)

        def forward(*_args, **_kwargs):
            return self._as_output(attention.module, self._flat(attended))

        with patched(attention.module, forward):
            return self._run(layer, rows, reshape=False)[:, 0 if with_clean else 1 :]

    def _run(self, layer: int, rows: Tensor, reshape: bool = True) -> Tensor:
        """One layer on rows [item, row, position, hidden]; `reshape` lays out its other arguments for the rows."""
        args, kwargs = self._calls[layer]
        fit = (lambda value: self._fit(value, rows.shape[1])) if reshape else (lambda value: value)
        hidden = self._flat(rows)
        if args:
            args = (hidden, *(fit(value) for value in args[1:]))
        else:
            kwargs = kwargs | {"hidden_states": hidden}
        kwargs = {name: value if value is hidden else fit(value) for name, value in kwargs.items()}
        with side_by_side(*rows.shape[:3]):
            output = self._run_layer(layer, args, kwargs)
        return (output[0] if isinstance(output, tuple) else output).reshape(rows.shape)

    def _run_layer(self, layer: int, args: tuple, kwargs: dict):
        """The layer's own output; what its code cannot do with rows is a reason not to replay."""
        try:
            return self.model.attentions[layer].layer(*args, **kwargs)
        except (RuntimeError, IndexError, ValueError) as error:
            if should_reduce_batch_size(error):
                raise
            said = " ".join(str(error).split())[:120]
            raise UnsupportedError(f"its layer {layer} cannot be run for rows side by side: {said}") from error

    def _flat(self, rows: Tensor) -> Tensor:
        """[item, row, position, hidden] as the layers take it: rows as positions, or rows as items."""
        return rows.flatten(1, 2) if self.at_answers else rows.flatten(0, 1)

    def _as_output(self, module: nn.Module, value: Tensor):
        length = self._shapes[module]
        return value if length is None else (value, *[None] * (length - 1))

    def _fit(self, value, rows: int):
        """An argument of a layer's clean call, laid out for `rows` rows of each item."""
        if isinstance(value, tuple | list):
            return type(value)(self._fit(part, rows) for part in value)
        if not isinstance(value, Tensor) or value.ndim == 0:
            return value
        return self._fit_positions(value, rows) if self.at_answers else self._fit_items(value, rows)

    def _fit_items(self, value: Tensor, rows: int) -> Tensor:
        items, length = self.batch.input_ids.shape
        if value.ndim == 3 and value.shape[1:] == (1, length):  # ALiBi: [item * head, 1, position]
            return value.unflatten(0, (items, -1)).repeat_interleave(rows, dim=0).flatten(0, 1)
        if value.shape[0] == items:
            return value.repeat_interleave(rows, dim=0)
        if value.shape[0] == 1:
            return value
        raise UnsupportedError(f"a layer takes a tensor of shape {tuple(value.shape)}")

    def _fit_positions(self, value: Tensor, rows: int) -> Tensor:
        items, length = self.batch.input_ids.shape
        if length not in value.shape:
            return value
        if value.ndim == 4 and value.shape[-2:] == (length, length):
            key = (id(value), rows)
            if key not in self._masks:
                self._masks[key] = self._row_mask(value, rows)
            return self._masks[key]
        if value.ndim in (3, 4) and value.shape[-2:] == (1, length):  # ALiBi: [item (*) head, 1, key position]
            keys = value.reshape(items, -1, length)
            at = self.batch.positions.to(value.device)[:, None].expand(-1, keys.shape[1], -1)
            own = keys.gather(2, at).repeat(1, 1, rows)
            return torch.cat([keys, own], dim=2).reshape(*value.shape[:-1], -1)
        if value.ndim in (2, 3) and value.shape[0] in (1, items) and value.shape[1] == length:
            answer = self.batch.gather(value.expand(items, *value.shape[1:]))
            return answer.repeat(1, rows, *[1] * (value.ndim - 2))
        raise UnsupportedError(f"a layer takes a tensor of shape {tuple(value.shape)}")

    def _row_mask(self, mask: Tensor, rows: int) -> Tensor:
        """[item, head or 1, row * answer, position + row * answer] from the clean [item or 1, ..., position, position].

        A row's query sees what the clean query at its position saw, with the answer positions replaced by the
        row's own.
        """
        items, length = self.batch.input_ids.shape
        hidden = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
        mask = mask.expand(items, -1, -1, -1)
        at = self.batch.positions.to(mask.device)
        answers = at.shape[1]
        item = torch.arange(items, device=mask.device)[:, None]
        queries = mask[item, :, at].transpose(1, 2)  # [item, head, answer, position]
        own = mask[item[..., None], :, at[:, :, None], at[:, None]].permute(0, 3, 1, 2)
        later = torch.ones(answers, answers, dtype=torch.bool, device=mask.device).triu(1)
        own = own.masked_fill(later, hidden)
        recomputed = torch.arange(length, device=mask.device) >= at[:, :1]  # [item, position]
        prompt = queries.masked_fill(recomputed[:, None, None], hidden)
        block = own.new_full((*own.shape[:2], rows, answers, rows, answers), hidden)
        index = torch.arange(rows, device=mask.device)
        block[:, :, index, :, index] = own
        return torch.cat([prompt.repeat(1, 1, rows, 1), block.flatten(4, 5).flatten(2, 3)], dim=-1)

    def _scores(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and exact match [item, row] from the last layer's output [item, row, position, hidden]."""
        if not self.at_answers:
            rows = self.batch.gather(rows.transpose(1, 2)).transpose(1, 2)
        with side_by_side(*rows.shape[:3]):
            logits = self._head(rows.flatten(0, 2)).unflatten(0, rows.shape[:3])
        targets = self.batch.targets[:, None].expand(rows.shape[:3]).to(logits.device)
        mask = self.batch.answer_mask[:, None].expand(rows.shape[:3]).to(logits.device)
        return answer_log_probability(logits, targets, mask), exact_match(logits, targets, mask)

    def _head(self, hidden: Tensor) -> Tensor:
        """Logits [n, token] of last-layer outputs [n, hidden], by the model's own steps after its last layer."""
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
    """Record a clean pass over the items at `rows`; and how many edited rows of each fit one pass.

    Args:
        positions, layers: as `Replay`; batch_tokens: the most positions of one pass, over all rows.
    """
    length = replay_length(model, max(sequence_length(items[row]) for row in rows))
    replay = Replay(model, collate(items, rows, length).to(model.device), positions, layers)
    most = max(1, batch_tokens // (len(rows) * replay.width))
    return replay, min(most, max(1, ROW_POSITIONS // replay.width)) if replay.at_answers else most


def replay_length(model: HeadModel, length: int) -> int:
    """The smallest length above `length` that is no dimension of the model.

    Layers' arguments are told apart by which of their dimensions is the sequence; one padded position more
    also makes every family pass an explicit mask.
    """
    taken = {size for parameter in model.model.parameters() for size in parameter.shape}
    taken |= {model.n_heads, model.d_head, model.d_head // 2, 2 * model.d_head}
    length += 1
    while length in taken:
        length += 1
    return length


def _check_layers(model: HeadModel) -> None:
    """Raise UnsupportedError where layers cannot be run for rows side by side.

    That is so where the attention implementation takes no mask of our own (flash attention), where layers mix
    positions by other means (hybrid models), and where no module of a layer puts out what its heads add up to.
    """
    if model.layers_without_attention:
        raise UnsupportedError(f"layer {model.layers_without_attention[0]} mixes positions without attention")
    for attention in model.attentions:
        if attention.module is None:
            raise UnsupportedError(f"no module around {attention.name} puts out what its heads add up to")
    kind = getattr(model.model.config.get_text_config(), "_attn_implementation", None)
    if kind not in (None, "eager", "sdpa"):
        raise UnsupportedError(f"attn_implementation: {kind} takes no mask of our own; take sdpa or eager")
