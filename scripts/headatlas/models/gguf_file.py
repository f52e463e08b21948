"""A model in a GGUF file before it is loaded: what its header says, and whether transformers reads it.

Imported while Snakemake reads the Snakefile: standard library only. The package `gguf` takes seconds to open the file
of a small model, because it builds an array for each token; this module skips them.
"""

import mmap
import os
import struct
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import isclose, prod
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.models.source import MAGIC

VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}  # struct's codes
ALIGNMENT = 32  # bytes, unless `general.alignment` gives another value
# Tensor types that transformers and `gguf` expand: name, values per block, bytes per block.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
}  # fmt: skip
# Architectures, by their names in the file, that transformers loads correctly (tests/unit/models/test_gguf_file.py).
ARCHITECTURES = ("gemma2", "gemma3", "gpt2", "llama", "nemotron", "phi3", "qwen2", "qwen3", "stablelm", "starcoder2")
TOKENIZERS = ("gpt2", "llama")  # `tokenizer.ggml.model`
FACTORS = "rope_freqs.weight"  # divisors of a Llama's rotary frequencies, from 3.1 on
# Factors of rotary positions that transformers ignores, like Llama's: the model would be a different one.
LEFT_OUT = ("rope_factors_long.weight", "rope_factors_short.weight")
# Keys of the file after the architecture's name, and the attributes of transformers' config that must agree with them
# (the first that the config has).
SAME = {
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("head_dim",),
    "attention.value_length": ("head_dim",),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "context_length": ("max_position_embeddings",),
    "embedding_length": ("hidden_size",),
    "feed_forward_length": ("intermediate_size",),
    "rope.dimension_count": ("rotary dimensions",),
    "rope.freq_base": ("rope_theta",),
    "use_parallel_residual": ("use_parallel_residual",),
}
# Read elsewhere, or irrelevant to what the model computes.
COUNTED = ("block_count", "attention.head_count", "vocab_size", "attention.causal", "rope.scaling.type")


@dataclass(frozen=True)
class Tensor:
    """One entry of a file's table of tensors; `offset` in bytes from the start of the data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Header:
    """The part of a GGUF file before its data.

    Attributes:
        values: by key; for a list of strings, such as the vocabulary, only its length.
        tensors: in file order; data_start: byte offset of their data.
    """

    file: str
    values: dict[str, object]
    tensors: tuple[Tensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture."""
        return str(self.values.get("general.architecture"))

    def get(self, key: str) -> object:
        """The value of one of the architecture's own keys; None if missing."""
        return self.values.get(f"{self.architecture}.{key}")


def read_header(file: str | Path) -> Header:
    """Read the header of a GGUF file, without its data.

    Raises:
        HeadAtlasError: the file does not exist, is not a GGUF file, or is truncated.
    """
    try:
        state = os.stat(file)
        return _read_header(str(file), state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        raise HeadAtlasError(f"{file}: there is no such file (looked in {Path.cwd()})") from None
    except OSError as error:
        raise HeadAtlasError(f"{file}: cannot be read: {error.strerror}") from None


@lru_cache(maxsize=8)
def _read_header(file: str, size: int, _time: int) -> Header:
    with open(file, "rb") as opened:
        if opened.read(4) != MAGIC:
            raise HeadAtlasError(f"{file}: is not a GGUF file (it does not begin with GGUF); get it again")
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _parse(file, _Cursor(data))
            except (struct.error, IndexError, UnicodeDecodeError, OverflowError, MemoryError, ZeroDivisionError):
                raise HeadAtlasError(f"{file}: is truncated or damaged in its header; get it again") from None


class _Cursor:
    """Reads numbers and strings one after the other."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, len(MAGIC)

    def number(self, code: str) -> int | float | bool:
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, count: int) -> tuple:
        layout = struct.Struct(f"<{count}{code}")
        found = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return found

    def string(self) -> str:
        length = self.number("Q")
        self.at += length
        if self.at > len(self.data):
            raise IndexError
        return self.data[self.at - length : self.at].decode("utf-8")

    def skip_strings(self, count: int) -> None:
        read = struct.Struct("<Q").unpack_from
        for _ in range(count):
            self.at += 8 + read(self.data, self.at)[0]

    def value(self, kind: int) -> object:
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise IndexError
        inner, count = self.numbers("I", 1)[0], self.number("Q")
        if inner == STRING:
            self.skip_strings(count)
            return count
        if inner not in NUMBERS:
            raise IndexError
        return list(self.numbers(NUMBERS[inner], count))

    def tensor(self) -> Tensor:
        name = self.string()
        shape = self.numbers("Q", self.number("I"))
        return Tensor(name, shape, self.number("I"), self.number("Q"))


def _parse(file: str, cursor: _Cursor) -> Header:
    version = cursor.number("I")
    if version not in VERSIONS:
        order = " (of another byte order)" if version > 0xFFFF else ""
        raise HeadAtlasError(
            f"{file}: is GGUF of version {version}{order}; versions 2 and 3 are read, convert it again"
        )
    n_tensors, n_values = cursor.numbers("Q", 2)
    values = {}
    for _ in range(n_values):
        key = cursor.string()
        values[key] = cursor.value(cursor.number("I"))
    tensors = tuple(cursor.tensor() for _ in range(n_tensors))
    alignment = values.get("general.alignment", ALIGNMENT)
    return Header(file, values, tensors, -(-cursor.at // alignment) * alignment)


# --- what the header says --------------------------------------------------------------------------------------


def model_config(header: Header) -> dict:
    """The model's size under the names that config.json uses.

    Raises:
        HeadAtlasError: not a language model, not readable by transformers from GGUF, or without a size.
    """
    _refuse_unread(header)
    heads = header.get("attention.head_count")
    if isinstance(heads, list) and len(set(heads)) > 1:
        counts = ", ".join(map(str, sorted(set(heads))))
        raise HeadAtlasError(
            f"{header.file}: its layers differ in the number of their heads ({counts}); such models are not supported"
        )
    heads = heads[0] if isinstance(heads, list) and heads else heads
    sizes = {"num_hidden_layers": header.get("block_count"), "num_attention_heads": heads}
    for name, key in (("num_hidden_layers", "block_count"), ("num_attention_heads", "attention.head_count")):
        if not isinstance(sizes[name], int) or sizes[name] < 1:
            raise HeadAtlasError(
                f"{header.file}: its header gives no number under {header.architecture}.{key}; is it a whole model?"
            )
    others = {
        "max_position_embeddings": "context_length",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
    }
    others["num_key_value_heads"] = "attention.head_count_kv"
    return {"model_type": header.architecture} | sizes | {name: header.get(key) for name, key in others.items()}


def _refuse_unread(header: Header) -> None:
    file, kind = header.file, header.architecture
    if (parts := header.values.get("split.count")) and parts > 1:
        raise HeadAtlasError(
            f"{file}: is one of {parts} parts of a model; join them first: llama-gguf-split --merge FIRST WHOLE.gguf"
        )
    if "general.architecture" not in header.values or header.values.get("general.type", "model") != "model":
        held = header.values.get("general.type", "no architecture")
        raise HeadAtlasError(f"{file}: holds no model ({held}); give the model's own file")
    if kind not in ARCHITECTURES:
        raise HeadAtlasError(
            f"{file}: GGUF weights of a {kind} model are not supported, only those of "
            f"{', '.join(ARCHITECTURES)}; give the folder of the original safetensors"
        )
    unread = sorted({tensor.type for tensor in header.tensors} - set(TYPES))
    if unread:
        raise HeadAtlasError(
            f"{file}: holds tensors of GGUF's type {unread[0]}, which are not supported, only "
            f"{', '.join(name for name, _, _ in TYPES.values())}; get the model in another quantisation"
        )
    left_out = LEFT_OUT if kind == "llama" else (*LEFT_OUT, FACTORS)
    factors = [tensor.name for tensor in header.tensors if tensor.name in left_out]
    scaling = header.get("rope.scaling.type")
    if factors or scaling not in (None, "none"):
        what = factors[0] if factors else f"{kind}.rope.scaling.type: {scaling}"
        raise HeadAtlasError(
            f"{file}: scales its rotary positions ({what}), which transformers does not read from GGUF, so "
            "the model would be a different one; give the folder of the original safetensors"
        )


def check_whole(header: Header) -> None:
    """Check that a file holds the data of all its tensors and a tokenizer, and that it can be loaded.

    Raises:
        HeadAtlasError: names what is missing, and what to do.
    """
    file = header.file
    if find_spec("gguf") is None:
        raise HeadAtlasError(f"{file}: reading GGUF needs the Python package gguf; run: pip install 'gguf>=0.17,<1'")
    ends = (tensor.offset + _bytes(tensor) for tensor in header.tensors)
    promised, size = header.data_start + max(ends, default=0), os.path.getsize(file)
    if size < promised:
        raise HeadAtlasError(f"{file}: is truncated: {size} of {promised} bytes exist; get it again")
    tokenizer = header.values.get("tokenizer.ggml.model")
    if tokenizer not in TOKENIZERS or not header.values.get("tokenizer.ggml.tokens"):
        held = f"a tokenizer of kind {tokenizer}" if tokenizer else "no tokenizer"
        raise HeadAtlasError(
            f"{file}: holds {held}, where {' or '.join(TOKENIZERS)} is read; give the folder of the original "
            "safetensors"
        )


def formats(header: Header) -> dict[str, int]:
    """Number of tensors by name of their type, sorted."""
    return dict(sorted(Counter(TYPES[tensor.type][0] for tensor in header.tensors).items()))


def n_values(header: Header) -> int:
    """Number of values in all tensors."""
    return sum(tensor.size for tensor in header.tensors)


def rotary_factors(header: Header) -> tuple[float, ...]:
    """Divisors of the rotary frequencies, [d_head / 2]; none if the file does not scale them."""
    tensor = next((tensor for tensor in header.tensors if tensor.name == FACTORS), None)
    if tensor is None:
        return ()
    with open(header.file, "rb") as file:
        file.seek(header.data_start + tensor.offset)
        return struct.unpack(f"<{tensor.size}f", file.read(4 * tensor.size))


def check_config(header: Header, config: object) -> list[str]:
    """Check that transformers loaded the model that the file describes.

    Args:
        config: of the loaded model.

    Returns:
        other statements of the file about the model, which transformers does not read.

    Raises:
        HeadAtlasError: names the first value that transformers did not adopt.
    """
    prefix = f"{header.architecture}."
    said = {key.removeprefix(prefix): value for key, value in header.values.items() if key.startswith(prefix)}
    for key in (key for key in SAME if key in said):
        value = max(said[key], default=0) if isinstance(said[key], list) else said[key]
        taken = next((found for name in SAME[key] if (found := _attribute(config, name)) is not None), None)
        if taken is None or not isclose(value, taken, rel_tol=1e-6):
            raise HeadAtlasError(
                f"{header.file}: says {prefix}{key}: {value}, where transformers loads the model with "
                f"{'nothing' if taken is None else taken}; give the folder of the original safetensors"
            )
    return [f"{prefix}{key}: {value}" for key, value in said.items() if key not in SAME and key not in COUNTED]


def _attribute(config: object, name: str) -> float | None:
    rotary = getattr(config, "rope_parameters", None) or {}
    rotary = rotary.get("full_attention", rotary)  # Gemma 3 has two sets
    if name == "rope_theta":
        return rotary.get(name)
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if name == "rotary dimensions":
        return int(d_head * rotary.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", 1.0)))
    return d_head if name == "head_dim" else getattr(config, name, None)


def _bytes(tensor: Tensor) -> int:
    _, values, n_bytes = TYPES[tensor.type]
    return tensor.size // values * n_bytes
