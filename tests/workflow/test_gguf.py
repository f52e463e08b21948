"""A run on a GGUF file: its map is that of the expanded weights; provenance; what an edit of the file runs again."""

import hashlib
import json
import os

import polars as pl
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_files import WORDS, write_gguf
from headatlas.models.source import shown_to_transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from workflow_runs import INDEPENDENT, copy_repository, copy_run, finish, planned

FILE, FOLDER = "blob", "folder"  # a file without suffix, as Ollama has them
LETTERS = "cdefghij"
TABLE = "results/{}/importance.parquet"
FILES = ("importance.parquet", "provenance.json")
TARGETS = [f"results/{model}/{name}" for model in ("quantised", "expanded") for name in FILES]
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a quantised model and of its expanded weights in a folder of safetensors."""
    config = INDEPENDENT | {
        "models": {"quantised": {"path": FILE, "device": "cpu"}, "expanded": {"path": FOLDER, "device": "cpu"}},
        "tasks": {"letters": {"source": "letters.jsonl"}},
    }
    folder = copy_repository(tmp_path_factory.mktemp("gguf") / "run", config)
    items = ({"prompt": f"{first}{second} {first}", "answer": second} for first in LETTERS for second in LETTERS)
    (folder / "letters.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=32, **SHAPE))
    write_gguf(folder / FILE, model, kind=lambda name: Kind.F32 if "norm" in name else Kind.Q8_0)
    with shown_to_transformers(str(folder / FILE)) as (path, gguf):
        expanded = AutoModelForCausalLM.from_pretrained(path, **gguf, dtype=torch.float32)
        del expanded.config.quantization_config
        expanded.hf_quantizer = None
        expanded.save_pretrained(folder / FOLDER)
        AutoTokenizer.from_pretrained(path, **gguf).save_pretrained(folder / FOLDER)
    finish(folder, *TARGETS)
    return folder


def test_the_map_is_that_of_the_expanded_weights(run):
    quantised, expanded = (pl.read_parquet(run / TABLE.format(model)) for model in ("quantised", "expanded"))
    assert len(quantised) == 2 * 2 * 4  # methods, layers, heads
    assert quantised.drop("model").equals(expanded.drop("model"))
    assert quantised["effect"].abs().min() > 0


def test_provenance_says_what_the_weights_were(run):
    said, other = (
        json.loads((run / f"results/{name}/provenance.json").read_text()) for name in ("quantised", "expanded")
    )
    assert said["model"]["path"] == FILE
    assert said["stored_as"] == {"F32": 5, "Q8_0": 16}
    assert said["dtype"] == "float32"
    assert said["files"][FILE] == hashlib.sha256((run / FILE).read_bytes()).hexdigest()
    assert said["packages"]["gguf"]
    assert other["stored_as"] == {"F32": 21}


def test_an_edit_of_the_file_runs_all_of_its_model_again_and_a_touch_nothing(run, tmp_path):
    folder = copy_run(run, tmp_path / "run")
    os.utime(folder / FILE)
    assert planned(finish(folder, "--dry-run", *TARGETS)) == {}
    content = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    jobs = {"prepare_task": 1, "trace_task": 1, "ablate_layers": 1, "attribute_task": 1, "record_engines": 1}
    jobs |= {"score_layer": 4, "aggregate": 1, "write_provenance": 1}
    assert planned(finish(folder, "--dry-run", *TARGETS)) == jobs
