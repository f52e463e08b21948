"""Models before they are loaded: geometry from config.json, weights and tokenizer there and whole."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from headatlas.config.check import Geometry, check_model_folder, read_geometry
from headatlas.errors import HeadAtlasError
from headatlas.models.folder import check_tokenizer, find_model, stored_as
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]


def folder(tmp_path: Path, config: object = None, name: str = "Modell ü") -> Path:
    path = tmp_path / name
    path.mkdir(exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def weights(path: Path, n_bytes: int = 8, name: str = "w") -> bytes:
    """A safetensors file of one tensor, written by hand."""
    entry = {"dtype": "F32", "shape": [n_bytes // 4], "data_offsets": [0, n_bytes]}
    header = json.dumps({name: entry, "__metadata__": {"format": "pt"}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(n_bytes)
    path.write_bytes(content)
    return content


GEOMETRIES = [
    ({"num_hidden_layers": 32, "num_attention_heads": 16, "max_position_embeddings": 9}, (32, 16, 9)),
    ({"n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024}, (12, 12, 1024)),
    ({"n_layer": 24, "n_head": 16}, (24, 16, None)),
    ({"num_hidden_layers": 12, "decoder_layers": 6, "num_attention_heads": 16, "decoder_attention_heads": 8},
     (6, 8, None)),
    ({"n_layer": 2, "n_head": 4, "num_attention_heads_per_layer": [4, 4]}, (2, 4, None)),
    ({"layers_block_type": ["mamba", "attention", "mlp"], "num_attention_heads": 4}, (3, 4, None)),
    ({"num_layers": 6, "num_heads": 16, "max_position_embeddings": 2048}, (6, 16, 2048)),
    ({"n_layers": 40, "n_heads": 48, "max_seq_len": 32768}, (40, 48, 32768)),
    (
        {"text_config": {"num_hidden_layers": 34, "num_attention_heads": 8, "max_position_embeddings": 10},
         "num_hidden_layers": 27, "architectures": ["Gemma3ForConditionalGeneration"]},
        (34, 8, 10),
    ),
    ({"n_layer": 2, "n_head": 3, "seq_length": 2048, "architectures": ["BloomForCausalLM"]}, (2, 3, 2048)),
    ({"n_layer": 2, "n_head": 3, "architectures": ["GPT2LMHeadModel"]}, (2, 3, None)),
    (
        {"num_layers": 28, "num_attention_heads": 32, "seq_length": 8192, "architectures": ["ChatGLMModel"],
         "auto_map": {"AutoModelForCausalLM": "modeling.X"}},
        (28, 32, 8192),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), GEOMETRIES)
def test_geometry_is_read_by_any_familys_names(config, expected, tmp_path):
    assert read_geometry({"path": str(folder(tmp_path, config))}) == Geometry(*expected, n_groups=expected[1])


@pytest.mark.parametrize(
    ("config", "groups"),
    [
        ({"num_key_value_heads": 2}, 2),
        ({"text_config": {"num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4}}, 4),
        ({"new_decoder_architecture": True, "multi_query": True, "num_kv_heads": 4}, 4),  # Falcon-40B
        ({"multi_query": True}, 1),  # Falcon-7B, StarCoder
        ({"multi_query": False}, 8),
        ({"attn_config": {"kv_n_heads": 2}}, 2),  # MPT
        ({"multi_query_group_num": 2}, 2),  # ChatGLM
        ({"num_key_value_heads": 3}, 8),  # no groups of equal size
        ({"num_key_value_heads": [2, 4]}, 8),  # layers that differ
    ],
)
def test_key_value_heads_are_read_by_any_familys_names(config, groups, tmp_path):
    config = {"num_hidden_layers": 2, "num_attention_heads": 8} | config
    assert read_geometry({"path": str(folder(tmp_path, config))}).n_groups == groups


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the folder has no config.json; is it a model folder?"),
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        (
            {"n_head": 2},
            "gives no number of layers (looked for decoder_layers, num_hidden_layers, n_layer, num_layers, n_layers)",
        ),
        (
            {"n_layer": 2, "n_head": "2"},
            "gives no number of heads (looked for decoder_attention_heads, num_attention_heads",
        ),
        ({"n_layer": True, "n_head": 2}, "gives no number of layers"),
        ({"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM, not a causal language model"),
        ({"architectures": ["LlamaModel"]}, "is a LlamaModel, not a causal language model"),
        (
            {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "has an encoder and a decoder",
        ),
        (
            {"model_type": "mamba2", "num_hidden_layers": 4, "num_heads": 8},
            "a mamba2 model has no attention, thus no heads to map; give a transformer",
        ),
        ({"model_type": "rwkv", "num_hidden_layers": 4}, "a rwkv model has no attention"),
        (
            {"n_layer": 2, "n_head": 4, "quantization_config": {"quant_method": "gptq", "bits": 4}},
            "its weights are quantised (gptq); give the model in float32, bfloat16 or float16",
        ),
        (
            {"n_layer": 2, "n_head": 4, "quantization_config": {"quant_method": "fp8"}},
            "(dequantize=True)).save_pretrained('new-folder')",
        ),
        (
            {"n_layer": 2, "n_head": 4, "quantization_config": {"bits": 4}},
            "its weights are quantised (config.json has a quantization_config)",
        ),
        (
            {"num_query_heads": [4, 6, 6]},  # OpenELM
            "its layers differ in the number or width of their heads (4, 6 by config.json)",
        ),
        (
            {"head_dim": 256, "per_layer_config": {"05": {"head_dim": 512}}},  # Gemma 4
            "its layers differ in the number or width of their heads (256, 512 by config.json)",
        ),
        (
            {"text_config": {"head_dim": 256, "global_head_dim": 512}},
            "its layers differ in the number or width of their heads (256, 512 by config.json)",
        ),
    ],
)
def test_a_folder_that_is_no_causal_model_is_refused(config, message, tmp_path):
    path = folder(tmp_path, config)
    with pytest.raises(HeadAtlasError, match=re.escape(message)) as error:
        read_geometry({"path": str(path)})
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_an_adapter_and_a_file_and_nothing_are_not_models(tmp_path):
    path = folder(tmp_path)
    (path / "adapter_config.json").write_text("{}")
    with pytest.raises(HeadAtlasError, match="an adapter must be merged into its base model first"):
        read_geometry({"path": str(path)})
    with pytest.raises(HeadAtlasError, match="is a file; give a GGUF file, or the folder"):
        read_geometry({"path": str(path / "adapter_config.json")})
    with pytest.raises(HeadAtlasError, match=r"there is no such model folder \(looked in .*; a hub id would be owner"):
        read_geometry({"path": "./nowhere/at/all"})


def test_a_file_in_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "bad_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "b.Q8_0.gguf").write_bytes(b"GGUF")
    folder(package, {"n_layer": 2, "n_head": 2}, "inner")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find_model("package://bad_weights/b.Q8_0.gguf", tmp_path) == str(package / "b.Q8_0.gguf")
    assert read_geometry({"path": find_model("package://bad_weights/inner", ROOT)}) == Geometry(2, 2, None, 2)
    monkeypatch.chdir(tmp_path)
    assert find_model("package://bad_weights/b.Q8_0.gguf", ROOT) == "site/bad_weights/b.Q8_0.gguf"
    by_name = "must be package://NAME/FILE, with the name by which Python imports the package"
    for named, message in {
        "package://gone_weights/b.gguf": f"there is no Python package 'gone_weights' for {sys.executable}; install it",
        "package://json.decoder/b.gguf": by_name,
        "package://os/b.gguf": "there is no Python package 'os'",  # one module, no folder
        "package://bad_weights/c.gguf": f"the package 'bad_weights' has no 'c.gguf' (looked in {package}, which holds "
        "b.Q8_0.gguf)",
    }.items():
        with pytest.raises(HeadAtlasError, match=f"^{re.escape(f'{named}: {message}')}"):
            find_model(named, ROOT)


def test_a_hub_model_comes_from_the_cache_and_an_unreachable_hub_is_said_so(tmp_path):
    cached = tmp_path / "hub" / "models--some--model"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps({"n_layer": 3, "n_head": 5, "n_positions": 7}))
    program = (
        "from headatlas.config.check import read_geometry\nfrom headatlas.errors import HeadAtlasError\n"
        "print(read_geometry({'path': 'some/model', 'revision': None}))\n"
        "for path in ('no/model', 'no/model-GGUF'):\n"
        "    try: read_geometry({'path': path, 'revision': 'v2'})\n    except HeadAtlasError as e: print(e)"
    )
    env = {"PYTHONPATH": str(ROOT / "scripts"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, cwd=tmp_path)
    found, refused, gguf = done.stdout.strip().split("\n")
    assert found == "Geometry(n_layers=3, n_heads=5, max_positions=7, n_groups=5, n_experts=1)"
    assert refused.startswith(
        f"no/model (revision v2): there is no such folder in {tmp_path}, so the Hugging Face hub was "
        f"asked, which "
        "gave no config.json: LocalEntryNotFoundError: "
    )
    assert " (for a GGUF file: hf download no/model-GGUF FILE, and name the file): LocalEntryNotFoundError: " in gguf


def test_a_whole_model_folder_passes(tmp_path):
    path = folder(tmp_path, {})
    weights(path / "model.safetensors")
    (path / "tokenizer.json").write_text("{}")
    check_model_folder({"path": str(path)}, 1)
    check_model_folder({"path": "owner/model-on-the-hub"}, 1)
    assert stored_as(str(path)) == {"F32": 1}
    assert stored_as("owner/model-on-the-hub") is None


def test_a_sharded_model_folder_needs_every_shard(tmp_path):
    path = folder(tmp_path, {})
    (path / "tokenizer.json").write_text("{}")
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    weights(path / "model-1.safetensors")
    with pytest.raises(HeadAtlasError, match=r"the index names model-2\.safetensors, which is missing"):
        check_model_folder({"path": str(path)}, 1)
    weights(path / "model-2.safetensors")
    check_model_folder({"path": str(path)}, 1)
    (path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(HeadAtlasError, match="is not an index of safetensors files"):
        check_model_folder({"path": str(path)}, 1)


def test_weights_that_are_missing_pickled_or_cut_short_are_refused(tmp_path):
    path = folder(tmp_path, {})
    model = {"path": str(path)}
    with pytest.raises(HeadAtlasError, match=r"has no weights \(\*\.safetensors\)"):
        check_model_folder(model, 1)
    (path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(HeadAtlasError, match=r"has only pickle weights \(pytorch_model.bin\).*save_pretrained"):
        check_model_folder(model, 1)
    (path / "model.safetensors").symlink_to("gone")
    with pytest.raises(HeadAtlasError, match=r"model\.safetensors: cannot be read: No such file or directory; get it"):
        check_model_folder(model, 1)
    (path / "model.safetensors").unlink()
    whole = weights(path / "model.safetensors", 400)
    for length in (0, 4, 8, 20, len(whole) - 400, len(whole) - 1):
        (path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(HeadAtlasError, match="truncated"):
            check_model_folder(model, 1)
    (path / "model.safetensors").write_bytes(whole)
    with pytest.raises(HeadAtlasError, match=r"has no tokenizer \(looked for tokenizer.json, "):
        check_model_folder(model, 1)


def test_weights_of_fewer_layers_than_config_says_are_refused(tmp_path):
    path = folder(tmp_path, {})
    (path / "tokenizer.json").write_text("{}")
    for name in ("h.0.w", "transformer.h.1.experts.7.w", "lm_head.w"):
        weights(path / f"{name}.safetensors", name=name)
    check_model_folder({"path": str(path)}, 2)
    with pytest.raises(
        HeadAtlasError, match=r"config.json names 3 layers, but the weights hold no layer 2 \(the first"
    ):
        check_model_folder({"path": str(path)}, 3)
    (path / "h.0.w.safetensors").unlink()
    with pytest.raises(HeadAtlasError, match="hold no layer 0"):
        check_model_folder({"path": str(path)}, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "tokenizer.json: is not valid JSON"),
        ("tokenizer.json", "[]", "tokenizer.json: must hold a JSON object"),
        ("tokenizer.json", "{}", r"tokenizer.json: holds no tokenizer \(no model\); get the file again"),
        ("tokenizer_config.json", "", "tokenizer_config.json: is not valid JSON"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(name, content, message, tmp_path):
    path = folder(tmp_path, {})
    check_tokenizer({"path": str(path)})
    check_tokenizer({"path": "owner/model-on-the-hub"})
    (path / "tokenizer.json").write_text('{"model": {}}')
    check_tokenizer({"path": str(path)})
    (path / name).write_text(content)
    with pytest.raises(HeadAtlasError, match=message):
        check_tokenizer({"path": str(path)})


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=64) | st.binary(max_size=40).map(lambda b: len(b).to_bytes(8, "little") + b))
def test_whatever_a_weights_file_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    path = folder(tmp_path, {})
    (path / "tokenizer.json").write_text("{}")
    (path / "model.safetensors").write_bytes(content)
    try:
        check_model_folder({"path": str(path)}, 1)
    except HeadAtlasError as error:
        said = str(error)
    else:
        said = f"{path}: whole"
    assert said.startswith(str(path))


def test_geometry_equals_what_transformers_reads(tmp_path):
    transformers = pytest.importorskip("transformers")
    kinds = "Llama Mistral Qwen2 Qwen3 Gemma2 Gemma3Text Phi3 GPT2 GPTNeoX OPT Falcon Bloom Starcoder2 Olmo2"
    for kind in (*kinds.split(), "Mixtral", "GPTJ", "GPTNeo", "Mpt"):
        config = getattr(transformers, f"{kind}Config")()
        path = folder(tmp_path, name=kind)
        config.save_pretrained(path)
        geometry = read_geometry({"path": str(path)})
        assert (geometry.n_layers, geometry.n_heads) == (
            config.num_hidden_layers,
            config.num_attention_heads,
        ), kind
        if kind not in ("Bloom",):
            positions = getattr(config, "max_position_embeddings", None) or config.max_seq_len
            assert geometry.max_positions == positions, kind
