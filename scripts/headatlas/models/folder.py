"""A model before it is loaded: where it is, its numbers of layers and heads, whether its files are complete.

`gguf_file` reads GGUF files. Imported while Snakemake reads the Snakefile: standard library only, and huggingface_hub
for hub models.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.models import gguf_file
from headatlas.models.safetensors_header import stored_tensors
from headatlas.models.source import PACKAGE, find_in_package, is_gguf

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
# The decoder's counts come first: BART's other counts describe its encoder, which a causal model lacks.
LAYERS = ("decoder_layers", "num_hidden_layers", "n_layer", "num_layers", "n_layers")
HEADS = ("decoder_attention_heads", "num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads")
GROUPS = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "multi_query_group_num")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
LAYER_LISTS = ("layer_types", "layers_block_type")  # one entry per layer; Nemotron-H gives no separate number
HEADS_PER_LAYER = (*HEADS, "num_query_heads", "num_attention_heads_per_layer")  # as lists, one entry per layer
POSITIONS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx",
)  # fmt: skip
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
NUMBER = re.compile(r"(?:^|\.)(\d+)\.")  # in the name of a layer's tensor; numbers of experts come after it
NO_ATTENTION = ("falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm")  # `model_type` of recurrent models
LOAD = "AutoModelForCausalLM.from_pretrained('{path}'"
UNPACKED = {  # by `quant_method`: how transformers loads the weights dequantised, so that it can save them
    "bitsandbytes": f"{LOAD}).dequantize()",
    "compressed-tensors": f"{LOAD}, quantization_config=CompressedTensorsConfig(dequantize=True))",
    "fp8": f"{LOAD}, quantization_config=FineGrainedFP8Config(dequantize=True))",
    "mxfp4": f"{LOAD}, quantization_config=Mxfp4Config(dequantize=True))",
}
BITSANDBYTES = "bitsandbytes"


@dataclass(frozen=True)
class Geometry:
    """A model's size according to its config.json or GGUF header.

    Attributes:
        n_layers: layers of the decoder.
        n_heads: query heads of a layer.
        max_positions: the longest context in tokens; None if the model states no limit.
        n_groups: key-value heads of a layer, each shared by a group of query heads; `n_heads` if none is shared.
        n_experts: among which a layer's router chooses; 1 if there is none.
    """

    n_layers: int
    n_heads: int
    max_positions: int | None
    n_groups: int
    n_experts: int = 1


def is_local(path: str) -> bool:
    """Whether `path` is local (it exists, or cannot be a hub's `name` or `owner/name`) rather than a hub id."""
    return os.path.exists(path) or HUB_ID.fullmatch(path) is None or is_gguf(path)


def find_model(path: str, base: Path) -> str:
    """Return the folder or GGUF file relative to the working directory, else to `base`, else `path` itself (a hub id).

    Raises:
        HeadAtlasError: `path` begins with package://, and the package or its content does not exist.
    """
    if path.startswith(PACKAGE):
        return find_in_package(path)
    here = os.path.expanduser(path)
    there = os.path.join(base, here)
    return there if not os.path.exists(here) and os.path.exists(there) else here


def read_geometry(model: dict) -> Geometry:
    """Read layers, heads and context from the model's config.json or GGUF header alone.

    Args:
        model: an entry of `models` in the config; `path` and `revision` count.
    Raises:
        HeadAtlasError: no such model, not a causal language model or one without attention, layers that differ in
            their heads, or no count of layers or heads.
    """
    config = read_model_config(model)
    path = model["path"]
    _refuse_unmapped(config, path)
    _refuse_other_kinds(config, path)
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    _refuse_unequal_layers(text, path)
    listed = next((len(text[name]) for name in LAYER_LISTS if isinstance(text.get(name), list)), None)
    text = text if _first(text, LAYERS) else text | {LAYERS[1]: listed}
    n_heads = _count(text, HEADS, path, "heads")
    return Geometry(
        _count(text, LAYERS, path, "layers"),
        n_heads,
        _first(text, POSITIONS),
        key_value_heads(text, n_heads),
        _first(text, EXPERTS) or 1,
    )


def read_model_config(model: dict) -> dict:
    """Return the model's config.json as a dict: from the folder, from the hub's cache, else from the hub.

    For a GGUF file, return only the model's size, from its header.

    Raises:
        HeadAtlasError: it is unavailable or not a JSON object; or the GGUF file cannot be read.
    """
    path = model["path"]
    if is_gguf(path):
        return gguf_file.model_config(gguf_file.read_header(path))
    return _read_object(_local_config(path) if is_local(path) else _hub_config(path, model.get("revision")))


def check_model_folder(model: dict, n_layers: int) -> None:
    """Check that a local model has complete weights of all layers and a tokenizer; do nothing for a hub model.

    Reads only the weights' headers, so it is fast for a model of any size.

    Args:
        n_layers: according to config.json.
    Raises:
        HeadAtlasError: names the file that is missing or cut short, and what to do.
    """
    path = model["path"]
    if is_gguf(path):
        header = gguf_file.read_header(path)
        gguf_file.check_whole(header)
        _check_layers(path, "the header", n_layers, (tensor.name for tensor in header.tensors))
        return
    if not is_local(path):
        return
    folder = _local_config(path).parent
    names = (name for file in weight_files(folder) for name in stored_tensors(file))
    _check_layers(folder, "config.json", n_layers, names)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise HeadAtlasError(
            f"{folder}: has no tokenizer (looked for {', '.join(TOKENIZERS)}); copy the files that came with "
            "the model, or save them with tokenizer.save_pretrained(folder)"
        )


def _check_layers(path: str | Path, source: str, n_layers: int, names: Iterable[str]) -> None:
    numbered = {int(found[1]) for name in names if (found := NUMBER.search(name))}
    missing = [layer for layer in range(n_layers) if layer not in numbered]
    if numbered and missing:
        raise HeadAtlasError(
            f"{path}: {source} names {n_layers} layers, but the weights hold no layer {missing[0]} (the first is "
            "0); get both of the same model"
        )


def check_tokenizer(model: dict) -> None:
    """Check that a local folder's tokenizer files can be read; do nothing for a hub model or a GGUF file.

    Raises:
        HeadAtlasError: names the file.
    """
    if not is_local(model["path"]):
        return
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = Path(model["path"]) / name
        if not file.is_file():
            continue
        content = _read_object(file)
        if name == "tokenizer.json" and not isinstance(content.get("model"), dict):
            raise HeadAtlasError(f"{file}: holds no tokenizer (no model); get the file again")


def weight_inputs(path: str) -> list[str]:
    """Files that a job which runs the model depends on, sorted; none for a hub model.

    Raises:
        HeadAtlasError: as `weight_files`.
    """
    if is_gguf(path):
        return [path]
    return sorted({f"{Path(path) / 'config.json'}", *map(str, weight_files(Path(path)))}) if is_local(path) else []


def tokenizer_inputs(path: str) -> list[str]:
    """Files that tokens depend on, sorted; none for a hub model."""
    if is_gguf(path):
        return [path]
    folder = Path(path)
    kinds = ("*.json", "*.model", "*.txt", "*.jinja") if is_local(path) else ()
    skip = {"config.json", "generation_config.json", "model.safetensors.index.json"}
    return sorted({str(file) for kind in kinds for file in folder.glob(kind) if file.name not in skip})


def stored_as(path: str) -> dict[str, int] | None:
    """Number of tensors of a local model's weights by number format or quantisation.

    None for a hub model.

    Raises:
        HeadAtlasError: a file cannot be read.
    """
    if is_gguf(path):
        return gguf_file.formats(gguf_file.read_header(path))
    if not is_local(path):
        return None
    tensors = (tensor for file in weight_files(Path(path)) for tensor in stored_tensors(file).values())
    return dict(sorted(Counter(tensor.format for tensor in tensors).items()))


def weight_bytes(path: str, dtype: str) -> int:
    """Bytes of memory that a local model's weights take once they are loaded in `dtype`.

    In whatever format they are stored, floating-point matrices take `dtype`, and vectors float32 (`precision`).
    Quantised weights of bitsandbytes stay as they are; those of a GGUF file are expanded.

    Raises:
        HeadAtlasError: as `weight_files`; or a file cannot be read.
    """
    each = 4 if dtype == "float32" else 2
    if is_gguf(path):
        return gguf_file.n_values(gguf_file.read_header(path)) * each
    tensors = (tensor for file in weight_files(Path(path)) for tensor in stored_tensors(file).values())
    return sum(tensor.loaded(each) for tensor in tensors)


def weight_files(folder: Path) -> list[Path]:
    """Return a local model's safetensors files, sorted: those that its index names, or all.

    Raises:
        HeadAtlasError: there are none, or a file that the index names is missing.
    """
    index = Path(folder) / "model.safetensors.index.json"
    if not index.is_file():
        files = sorted(Path(folder).glob("*.safetensors"))
        if not files:
            raise HeadAtlasError(_no_weights(Path(folder)))
        return files
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [index.parent / name for name in names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise HeadAtlasError(f"{index}: is not an index of safetensors files; get it again") from None
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise HeadAtlasError(f"{folder}: the index names {', '.join(missing)}, which is missing; finish the download")
    return files


def _read_object(file: Path) -> dict:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise HeadAtlasError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HeadAtlasError(f"{file}: is not valid JSON ({error}); get the file again") from None
    if not isinstance(content, dict):
        raise HeadAtlasError(f"{file}: must hold a JSON object; get the file again")
    return content


def _local_config(path: str) -> Path:
    folder = Path(path)
    if os.path.isfile(path):
        raise HeadAtlasError(f"{path}: is a file; give a GGUF file, or the folder with config.json, weights, tokenizer")
    if not os.path.isdir(path):
        raise HeadAtlasError(
            f"{path}: there is no such model folder (looked in {Path.cwd()}; a hub id would be owner/name)"
        )
    ggufs = [] if any(folder.glob("*.safetensors")) else sorted(folder.glob("*.gguf"))
    if ggufs:
        raise HeadAtlasError(f"{folder}: its weights are in GGUF files; name the one to take (path: {ggufs[0]})")
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        hint = "an adapter must be merged into its base model first" if adapter else "is it a model folder?"
        raise HeadAtlasError(f"{folder}: the folder has no config.json; {hint}")
    return folder / "config.json"


def _hub_config(name: str, revision: str | None) -> Path:
    """Prefer the cache: every job rereads the Snakefile, which must not wait for a server."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision))
    except Exception as error:  # its own errors, those of the HTTP client under it, and OSError
        why = " ".join(str(error).split())[:200] or type(error).__name__
        of = f" (revision {revision})" if revision else ""
        gguf = f" (for a GGUF file: hf download {name} FILE, and name the file)" if "gguf" in name.lower() else ""
        raise HeadAtlasError(
            f"{name}{of}: there is no such folder in {Path.cwd()}, so the Hugging Face hub was asked, which "
            f"gave no config.json{gguf}: {type(error).__name__}: {why}"
        ) from None


def _refuse_unequal_layers(config: dict, path: str) -> None:
    """A grid needs the same number of heads in all layers; heads of different widths have no common baseline or
    probe."""
    lists = [config.get(name) for name in HEADS_PER_LAYER]
    unequal = [sorted(set(counts)) for counts in lists if isinstance(counts, list) and len(set(map(str, counts))) > 1]
    per_layer = config.get("per_layer_config")
    layers = list(per_layer.values()) if isinstance(per_layer, dict) else []
    for name in (*HEADS, "head_dim", "v_head_dim"):
        values = {layer[name] for layer in layers if isinstance(layer, dict) and isinstance(layer.get(name), int)}
        unequal += [sorted(values | {config[name]})] if values - {config.get(name)} and config.get(name) else []
    if isinstance(config.get("global_head_dim"), int) and config["global_head_dim"] != config.get("head_dim"):
        unequal.append([config.get("head_dim"), config["global_head_dim"]])
    if unequal:
        raise HeadAtlasError(
            f"{path}: its layers differ in the number or width of their heads ({', '.join(map(str, unequal[0]))} by "
            "config.json); such models are not supported"
        )


def _refuse_other_kinds(config: dict, path: str) -> None:
    names = config.get("architectures")
    names = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    causal = [name for name in names if name.endswith(("ForCausalLM", "LMHeadModel"))]
    if isinstance(config.get("text_config"), dict):
        causal += [name for name in names if name.endswith("ForConditionalGeneration")]
    own_code = config.get("auto_map")
    if isinstance(own_code, dict) and "AutoModelForCausalLM" in own_code:
        causal.append("AutoModelForCausalLM")
    if config.get("is_encoder_decoder") is True:
        kind = "has an encoder and a decoder"
    elif names and not causal:
        kind = f"is a {', '.join(names)}"
    else:
        return
    raise HeadAtlasError(f"{path}: {kind}, not a causal language model; give one that AutoModelForCausalLM loads")


def _refuse_unmapped(config: dict, path: str) -> None:
    """Refuse causal models without accessible attention heads, and quantised weights."""
    kind = config.get("model_type")
    if kind in NO_ATTENTION:
        raise HeadAtlasError(f"{path}: a {kind} model has no attention, thus no heads to map; give a transformer")
    method = quantised_by(config)
    if method is None or (method == BITSANDBYTES and find_spec(BITSANDBYTES)):
        return
    if method == BITSANDBYTES:
        raise HeadAtlasError(
            f"{path}: its weights are quantised by bitsandbytes, which {sys.executable} does not have; install it "
            f"there (pip install 'bitsandbytes>=0.50'), or write the model once where it is installed: "
            f"{UNPACKED[method].format(path=path)}.save_pretrained('new-folder')"
        )
    way = UNPACKED.get(method, "")
    way = way and f", or write it once: {way.format(path=path)}.save_pretrained('new-folder')"
    raise HeadAtlasError(
        f"{path}: its weights are quantised ({method or 'config.json has a quantization_config'}); give the model in "
        f"float32, bfloat16 or float16{way}"
    )


def quantised_by(config: dict) -> str | None:
    """How the weights are quantised according to config.json, "" if it names no method; None if they are not."""
    quantised = config.get("quantization_config")
    if not isinstance(quantised, dict):
        return None
    bits = quantised.get("load_in_8bit") or quantised.get("load_in_4bit")
    return quantised.get("quant_method") or (BITSANDBYTES if bits else "")


def _count(config: dict, names: tuple[str, ...], path: str, what: str) -> int:
    count = _first(config, names)
    if count is None:
        raise HeadAtlasError(
            f"{path}: config.json gives no number of {what} (looked for {', '.join(names)}); is it complete?"
        )
    return count


def key_value_heads(config: dict, n_heads: int) -> int:
    """Number of key-value heads; `n_heads` where config.json states none, or one that does not divide the heads."""
    nested = config.get("attn_config")  # MPT
    count = _first(config | (nested if isinstance(nested, dict) else {}), GROUPS)
    if config.get("multi_query") is True and config.get("new_decoder_architecture") is not True:  # Falcon, GPTBigCode
        count = 1
    return count if count and n_heads % count == 0 else n_heads


def _first(config: dict, names: tuple[str, ...]) -> int | None:
    counts = [config.get(name) for name in names]
    return next((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n > 0), None)


def _no_weights(folder: Path) -> str:
    pickles = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth") for file in folder.glob(kind))
    if not pickles:
        return f"{folder}: has no weights (*.safetensors); finish the download"
    return (
        f"{folder}: has only pickle weights ({pickles[0]}), which may run code when loaded; if you trust "
        "them, load the model with transformers and save it with model.save_pretrained(folder)"
    )
