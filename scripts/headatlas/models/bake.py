"""Takes heads away for good: a normal transformers folder in which they output a constant, whatever the input.

The heads' outputs z enter the output projection, z W + b. A head that always outputs c always adds c W_head. So its
part of W becomes zero, and c W_head is added to b. A family without b may have a key in its config that gives the
projections a bias; the other biases that come with it stay zero.

Knows weights, config and folders; nothing about tasks or how heads are chosen.
"""

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic_folder, write_json
from headatlas.models.batches import Batch, collate, sequence_length
from headatlas.models.folder import is_local, tokenizer_inputs
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads
from headatlas.models.loading import load_model
from headatlas.models.prune import prune
from headatlas.models.quantised import is_quantised
from headatlas.models.source import is_gguf, shown_to_transformers

TOLERANCE = 1e-5  # largest difference from hooks, relative to 1 + the largest log-probability compared
CHECKED = 4  # items


@dataclass(frozen=True)
class Check:
    """How far a baked model is from hooks that replace the same head outputs at all positions.

    `items` passed through both; `numbers` compared: log-probabilities of all tokens at the items' answer positions;
    `difference`: the largest between both, nats; `change`: the largest between the hooked and the unedited model, nats.
    """

    items: int
    numbers: int
    difference: float
    change: float


def bake(
    settings: dict,
    heads: Heads,
    vectors: Tensor | None,
    items: list[dict],
    folder: Path,
    device: str = "cpu",
    pruned: bool = False,
) -> tuple[str, Check]:
    """Write a transformers folder in which some heads output a constant at every position, and check it.

    The folder appears only if the model loaded from it again agrees with hooks on the original. Its baked.json says
    which heads output what, where the constants are, and how large the difference is.

    Args:
        settings: of the model, as in `loading.load_model`.
        heads: (layer, head) pairs; vectors: [head of the list, d_head], what they output; None for zero.
        items: tokenised items, of which `CHECKED` are compared, the shortest and the longest among them.
        folder: to write; must not exist.
        pruned: whether to cut the heads out of the projections, too (`prune`).

    Returns:
        where the constants are, in words, and the check.

    Raises:
        HeadAtlasError: `folder` exists; a head that the model lacks; vectors of another width; a family that keeps no
            bias; heads that cannot be cut out; the baked model differs from the hooked one.
    """
    if Path(folder).exists():
        raise HeadAtlasError(f"{folder}: exists already; name a folder that does not, or remove it")
    model = load_model(settings, device)
    check_heads(model, heads, vectors)
    chosen = [collate([item], [0]).to(model.device) for item in spread(items, CHECKED)]
    with torch.no_grad():
        clean = [_log_probs(model, batch) for batch in chosen]
        with model.edit_head_outputs(_edits(heads, vectors)):
            hooked = [_log_probs(model, batch) for batch in chosen]
        place = silence(model, heads, vectors)
    with atomic_folder(folder) as draft:
        save(model, settings, draft, heads if pruned else [])
        del model
        baked = load_model(settings | {"path": str(draft), "revision": None}, device)
        with torch.no_grad():
            found = [_log_probs(baked, batch) for batch in chosen]
        check = Check(len(chosen), sum(map(Tensor.numel, found)), _apart(found, hooked), _apart(hooked, clean))
        allowed = TOLERANCE * (1 + max(float(values.abs().max()) for values in hooked))
        if not check.difference <= allowed:
            raise HeadAtlasError(
                f"model {settings['path']}: without these heads its log-probabilities differ by {check.difference:.2g} "
                f"nats from those of hooks, more than {allowed:.2g}; {_advice(baked)}"
            )
        write_json(draft / "baked.json", _record(settings, heads, vectors, place, check) | {"pruned": pruned})
    return place, check


def check_heads(model: HeadModel, heads: Heads, vectors: Tensor | None) -> None:
    """Refuse quantised weights, heads that the model lacks or that are named twice, and vectors of another shape.

    Raises:
        HeadAtlasError: names the head or the widths.
    """
    if not heads:
        raise HeadAtlasError(f"model {model.name}: the list names no head to take away; list at least one")
    model.require(heads)
    for layer, head in heads:
        if is_quantised(model.attentions[layer].projection):
            raise HeadAtlasError(
                f"model {model.name}: its weights are quantised, so no part of them can become exactly zero; take "
                "heads away from the model as it was before quantisation"
            )
        if heads.count((layer, head)) > 1:
            raise HeadAtlasError(f"model {model.name}: the list names head {layer}.{head} twice; name it once")
    if vectors is not None and tuple(vectors.shape) != (len(heads), model.d_head):
        raise HeadAtlasError(
            f"model {model.name}: the vectors of {len(heads)} heads should have the shape {len(heads)} x "
            f"{model.d_head}, but have {' x '.join(map(str, vectors.shape))}; take those made for this list and model"
        )


def spread(items: list[dict], n: int) -> list[dict]:
    """At most `n` of the items, evenly spread over their lengths, the shortest and the longest among them."""
    ordered = sorted(items, key=sequence_length)
    if len(ordered) <= n:
        return ordered
    return [ordered[round(step * (len(ordered) - 1) / (n - 1))] for step in range(n)]


def silence(model: HeadModel, heads: Heads, vectors: Tensor | None) -> str:
    """Edit a model's weights so that these heads output their vector (None: zero) at every position.

    Returns:
        where the constants are, in words.

    Raises:
        HeadAtlasError: the family's output projection has no bias, nor a key in its config that gives it one.
    """
    place = "none needed: these heads output zero" if vectors is None else _give_biases(model, heads)
    for index, (layer, head) in enumerate(heads):
        attention = model.attentions[layer]
        own = attention.weight[head]  # [d_head, hidden], a view
        if vectors is not None:
            bias = attention.projection.bias
            constant = vectors[index].to(own.device, torch.float64) @ own.to(torch.float64)
            bias.copy_(bias.to(torch.float64) + constant)
        own.zero_()
    return place


def save(model: HeadModel, settings: dict, folder: Path, cut: Heads = ()) -> None:
    """Write weights (safetensors) and config, and the tokenizer's files as they were, as one transformers folder.

    Args:
        cut: silent heads to leave out of the projections.
    """
    _store(model.model, model.kept_in)
    if cut:
        prune(model, cut)
    model.model.save_pretrained(folder)
    path = settings["path"]
    if is_local(path) and not is_gguf(path):
        own_code = sorted(Path(path).glob("*.py")) if settings.get("trust_remote_code") else []
        for file in (*tokenizer_inputs(path), *own_code):
            shutil.copy2(file, folder)
        return
    with shown_to_transformers(path) as (shown, gguf):
        options = {"revision": settings.get("revision") or "main"} | gguf
        trusted = settings.get("trust_remote_code", False)
        AutoTokenizer.from_pretrained(shown, trust_remote_code=trusted, **options).save_pretrained(folder)


def _record(settings: dict, heads: Heads, vectors: Tensor | None, place: str, check: Check) -> dict:
    return {
        "model": {"path": settings["path"], "revision": settings.get("revision")},
        "mode": "zero" if vectors is None else "mean",
        "heads": [{"layer": layer, "head": head} for layer, head in heads],
        "constants": place,
        "check": asdict(check),
    }


def _edits(heads: Heads, vectors: Tensor | None) -> dict[int, Callable[[Tensor], Tensor]]:
    """By layer: what replaces these heads' outputs in [item, position, head, d_head], at all positions."""

    def edit(layer: int) -> Callable[[Tensor], Tensor]:
        rows = [row for row, (edited, _) in enumerate(heads) if edited == layer]
        own = [heads[row][1] for row in rows]

        def replace(z: Tensor) -> Tensor:
            z = z.clone()
            z[:, :, own] = 0.0 if vectors is None else vectors[rows].to(z)
            return z

        return replace

    return {layer: edit(layer) for layer in {layer for layer, _ in heads}}


def _log_probs(model: HeadModel, batch: Batch) -> Tensor:
    """[answer, token] float32 log-probabilities of every token at one item's answer positions."""
    return model.logits(batch.input_ids, batch.attention_mask, batch.gather)[0].float().log_softmax(-1)


def _apart(left: list[Tensor], right: list[Tensor]) -> float:
    """The largest difference; NaN if a value is NaN."""
    return float(torch.stack([(a - b).abs().max() for a, b in zip(left, right, strict=True)]).max())


def _advice(model: HeadModel) -> str:
    if model.kept_in != torch.float32:
        kept = str(model.kept_in).removeprefix("torch.")
        return f"the constants are rounded to {kept}: set the model's dtype to float32, or the mode to zero"
    return "this family is not supported"


# --- a bias for the output projections -------------------------------------------------------------------------------


def _give_biases(model: HeadModel, heads: Heads) -> str:
    """Make sure that the output projections of these heads have a bias; say which it is."""
    projections = {model.attentions[layer].projection for layer, _ in heads}
    if all(isinstance(getattr(projection, "bias", None), Tensor) for projection in projections):
        return "the bias of the output projection"
    wanted = {f"{name}.bias" for name, module in model.model.named_modules() if module in projections}
    found = next(_configs_with(model.model, wanted), None)
    if found is None:
        raise HeadAtlasError(
            f"model {model.name}: its output projections have no bias, and no key of its config gives them one, so a "
            f"{type(model.model).__name__} cannot hold a mean; set the mode to zero"
        )
    key, config, added = found
    for name in added:
        module = model.model.get_submodule(name.removesuffix(".bias"))
        weight = module.weight
        width = weight.shape[0] if isinstance(module, nn.Linear) else weight.shape[1]
        module.bias = nn.Parameter(torch.zeros(width, dtype=weight.dtype, device=weight.device), requires_grad=False)
    model.model.config = config
    return f"the bias of the output projection, which {key}: true in config.json adds; the other new biases are zero"


def _configs_with(model: PreTrainedModel, wanted: set[str]) -> Iterator[tuple[str, PreTrainedConfig, list[str]]]:
    """Keys of the config that, set to true, add the wanted biases and nothing but biases.

    Yields:
        the key, the changed config, and the names of all biases that it adds.
    """
    present = {name for name, _ in model.named_parameters()}
    for *path, key in _switches(model.config):
        config = copy.deepcopy(model.config)
        part = config
        for step in path:
            part = getattr(part, step)
        setattr(part, key, True)
        with torch.device("meta"):
            names = {name for name, _ in type(model)(config).named_parameters()}
        added = sorted(names - present)
        if present <= names and wanted <= {*added} and all(name.endswith(".bias") for name in added):
            yield ".".join((*path, key)), config, added


def _switches(config: PreTrainedConfig) -> Iterator[tuple[str, ...]]:
    """Paths of the keys about biases that are not set, in a config and in those inside it."""
    for name, value in config.to_dict().items():
        inner = getattr(config, name, None)
        if isinstance(inner, PreTrainedConfig):
            yield from ((name, *path) for path in _switches(inner))
        elif "bias" in name and (value is None or value is False):
            yield (name,)


def _store(model: nn.Module, dtype: torch.dtype) -> None:
    """Turn weights kept in half precision into plain tensors of that format, vectors included; tied ones stay tied."""
    if dtype == torch.float32:
        return
    plain: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(weight) not in plain:
                value = weight.detach().as_subclass(Tensor).to(dtype)
                plain[id(weight)] = nn.Parameter(value, requires_grad=False)
            setattr(module, name, plain[id(weight)])
