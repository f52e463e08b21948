"""GGUF files of tiny models, written as llama.cpp's converter lays them out, from models of transformers."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from transformers import PreTrainedModel
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.modeling_gguf_pytorch_utils import TensorProcessor, get_gguf_hf_weights_map

WORDS = ["<unk>", "<s>", "</s>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "ab"]
TEMPLATE = "{% for message in messages %}x{{ message['content'] }}y{% endfor %}"
F32 = gguf.GGMLQuantizationType.F32


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """[head * d_head, hidden], the halves of each head's rows interleaved, as llama.cpp keeps queries and keys."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def laid_out(model: PreTrainedModel, name: str, weight: np.ndarray) -> np.ndarray:
    """A tensor as llama.cpp's converter changes it, by its name there."""
    config, kind = model.config, model.config.model_type
    if kind == "llama" and ".attn_q." in name:
        return permuted(weight, config.num_attention_heads)
    if kind == "llama" and ".attn_k." in name:
        return permuted(weight, config.num_key_value_heads)
    if (kind in ("gemma2", "gemma3_text") and "norm" in name) or (kind == "nemotron" and name.endswith("norm.weight")):
        return weight + 1
    if kind == "gpt2" and any(part in name for part in ("attn_qkv.w", "attn_output.w", "ffn_down.w", "ffn_up.w")):
        return weight.T
    return weight


def values_of(model: PreTrainedModel, architecture: str) -> dict[str, int | float]:
    """The numbers of a model's config by the keys that they have in a GGUF file."""
    names = GGUF_CONFIG_MAPPING[architecture] | {"rope.freq_base": "rope_theta"}
    config = model.config.to_dict() | (getattr(model.config, "rope_parameters", None) or {})
    config = {name: getattr(model.config, name, None) for name in names.values() if name} | config
    found = {key: config.get(name) for key, name in names.items() if name and "vocab" not in key}
    return {f"{architecture}.{key}": value for key, value in found.items() if value is not None}


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    architecture: str = "llama",
    kind: Callable[[str], gguf.GGMLQuantizationType] = lambda name: F32,
    tensors: dict[str, np.ndarray] | None = None,
    **others: object,
) -> dict[str, np.ndarray]:
    """Write a model of transformers; return the values its file holds by their names there, expanded to float32.

    Args:
        kind: by a tensor's name, its quantisation. tensors: more of them, float32.
        others: more values of the header, or None to leave one out; dots are written as double underscores.
    """
    writer = gguf.GGUFWriter(file, architecture)
    values = values_of(model, architecture) | {key.replace("__", "."): value for key, value in others.items()}
    for key, value in values.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    words = [*WORDS, *(f"w{number}" for number in range(len(WORDS), model.config.vocab_size))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3] * 3 + [1] * (len(words) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = {hf: there for there, hf in get_gguf_hf_weights_map(model, TensorProcessor()).items()}
    held = {}
    for name, tensor in (tensors or {}).items():
        writer.add_tensor(name, tensor)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    for name, tensor in model.state_dict().items():
        if name in tied or name not in names:
            continue
        there, weight = names[name], laid_out(model, names[name], tensor.float().numpy())
        quantised = quantize(np.ascontiguousarray(weight), kind(there))
        writer.add_tensor(there, quantised, raw_dtype=kind(there))
        held[there] = gguf.dequantize(quantised, kind(there))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def logits(model: PreTrainedModel, length: int = 12) -> torch.Tensor:
    """[1, position, token] of a fixed sequence."""
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 3 + length)[None]).logits
