"""What a machine has, what a job asks for, and that its passes keep to it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from families import random_items
from headatlas.errors import HeadAtlasError
from headatlas.models import loading
from headatlas.models.allocations import Allocations
from headatlas.models.batches import run_batches
from headatlas.models.folder import weight_bytes
from headatlas.models.memory import check_share, estimate_weights, machine_memory, pass_bytes, token_bytes
from headatlas.models.precision import kept_in
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.resources import Requests, tokens_of_longest
from safetensors.numpy import load_file
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from workflow_runs import REDUCED, ROOT, environment

LLAMA = {"vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}


def test_memory_asked_for_a_hub_model_comes_from_its_config():
    published = 16_060_522_496  # bytes of Llama-3.1-8B's four bfloat16 files, by their index
    assert published < estimate_weights(LLAMA, "bfloat16") < 1.2 * published
    assert estimate_weights(LLAMA, "float32") == 2 * estimate_weights(LLAMA, "bfloat16")
    in_four_bits = estimate_weights(LLAMA | {"quantization_config": {"load_in_4bit": True}}, "bfloat16")
    layers = 32 * (4 * 4096**2 + 3 * 4096 * 14336)
    assert in_four_bits == int(0.57 * layers) + 2 * 2 * 128256 * 4096
    assert estimate_weights({"text_config": LLAMA}, "bfloat16") == estimate_weights(LLAMA, "bfloat16")
    assert estimate_weights({"vocab_size": 1}, "bfloat16") == 32_000_000_000


def test_memory_of_a_token_by_hand():
    """A layer keeps 10 x 4096 + 4 x 14336 float32, for edits 3 x 4096; 1024 tokens outweigh the logits of 512.

    With gradients a pass has 512 tokens, or those of the longest item.
    """
    layer = 4 * (10 * 4096 + 4 * 14336)
    assert token_bytes(LLAMA, backward=True) == 32 * layer
    assert token_bytes(LLAMA, backward=False) == 2 * layer + 32 * 4 * 3 * 4096
    assert pass_bytes(LLAMA, backward=True) == 512 * 32 * layer
    assert pass_bytes(LLAMA, backward=True, longest=60) == 512 * 32 * layer
    assert pass_bytes(LLAMA, backward=True, longest=2000) == 2000 * 32 * layer
    assert pass_bytes(LLAMA, backward=False) == 1024 * (2 * layer + 32 * 4 * 3 * 4096)
    assert pass_bytes(LLAMA | {"vocab_size": 10**7}, backward=True) == 3 * 4 * 512 * 10**7


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/job/step\n", {"job/memory.max": "5000000", "job/step/memory.max": "max"}, 5_000_000),
        ("0::/job\n", {"memory.max": "7000000"}, 7_000_000),
        ("4:cpu,memory:/job\n0::/\n", {"memory/job/memory.limit_in_bytes": "3000000"}, 3_000_000),
        ("0::/job\n", {"other/memory.max": "1000"}, None),
    ],
)
def test_the_control_group_limits_the_machine(tmp_path, groups, files, limit):
    """Version 2, with the limit above the process's own group or at the top; version 1; a group of others."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert machine_memory(tmp_path) == (limit or whole)


@pytest.mark.parametrize(
    ("memory", "cores", "share"),
    [(19_200, 2, 487), (6_400, 2, 487), (900, 2, 450), (1_000, 50, 439), (410, 1, 410)],
)
def test_jobs_on_this_machine_share_its_memory(monkeypatch, memory, cores, share):
    """The demo asks 420 MB for libraries, 2 for weights and 64 for passes, and takes a quarter of those at least.

    Machines of 24 and 8 GB give it the same, so it makes the same batches there.
    """
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    models = {"demo": {"path": "workflow/resources/demo-model"}}
    atlas = Atlas(REDUCED | {"models": models, "compute": {"memory": memory}}, ROOT)
    assert Requests(atlas, True, cores).memory_mb("demo", 1) == share
    assert Requests(atlas, True, cores).memory_mb("demo", 3) <= memory


def test_jobs_request_memory_for_their_tokens_of_longest(monkeypatch, tmp_path):
    """With gradients a token takes 4 (10 hidden + 4 between) bytes a layer; the least share holds the longest item."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    assert tokens_of_longest(map(str, files)) is None
    for file, lengths in zip(files, ([3, 9_000], [20]), strict=True):
        items = [{"prompt_ids": [0] * (length - 1), "answer_ids": [0, 0]} for length in lengths]
        file.write_text(json.dumps({"task": "a", "counts": {}, "items": items}))
    assert tokens_of_longest(map(str, files)) == 9_000
    assert tokens_of_longest(str(files[1])) == 20
    config = json.loads((ROOT / "workflow/resources/demo-model/config.json").read_text())
    token = config["num_hidden_layers"] * 4 * (10 * config["hidden_size"] + 4 * config["intermediate_size"])
    models = {"demo": {"path": "workflow/resources/demo-model"}}
    atlas = Atlas(REDUCED | {"models": models, "compute": {"memory": 19_200}}, ROOT)
    fixed = 420e6 + (ROOT / "workflow/resources/demo-model/model.safetensors").stat().st_size
    asked = Requests(atlas, True, 100).memory_mb("demo", 1, backward=True, longest=9_000)
    assert asked == pytest.approx((fixed + 9_000 * token) / 1e6, abs=1.5)
    check_share(asked, "cpu", atlas.models["demo"], 9_000, backward=True)
    assert Requests(atlas, True, 2).memory_mb("demo", 1, backward=True, longest=20) == 487  # at least 64 MB of passes


def folder_of_a_megabyte(folder) -> None:
    """Llama-3.1-8B's config.json and 1,000,000 bytes of weights."""
    (folder / "config.json").write_text(json.dumps(LLAMA))
    save_file({"w": torch.zeros(500, 500)}, folder / "model.safetensors")


def test_weights_take_what_their_format_in_memory_takes(tmp_path):
    """Matrices 10 x 10 and 4 x 5 in two formats, a vector of 7 and 9 integers, by hand."""
    tensors = {"a": torch.zeros(10, 10, dtype=torch.bfloat16), "b": torch.zeros(4, 5)}
    save_file(tensors | {"norm": torch.zeros(7, dtype=torch.bfloat16)}, tmp_path / "model-1.safetensors")
    save_file({"quantised": torch.zeros(3, 3, dtype=torch.uint8)}, tmp_path / "model-2.safetensors")
    assert weight_bytes(str(tmp_path), "float32") == 4 * 100 + 4 * 20 + 4 * 7 + 9
    assert weight_bytes(str(tmp_path), "bfloat16") == 2 * 100 + 2 * 20 + 4 * 7 + 9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_weights_take_the_bytes_of_the_loaded_model(tmp_path, stored, dtype):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    network = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=90, num_key_value_heads=2, attention_bias=True))
    network.to(getattr(torch, stored)).save_pretrained(tmp_path)
    loaded = loading.load_model({"path": str(tmp_path), "dtype": dtype}, "cpu")
    held = sum(parameter.numel() * kept_in(parameter).itemsize for parameter in loaded.model.parameters())
    assert weight_bytes(str(tmp_path), dtype) == held
    assert 0 <= loaded.weight_bytes - held <= 100  # rotary frequencies


def test_a_share_that_is_too_small_is_refused_before_weights_are_loaded(tmp_path):
    """Libraries 420 MB, weights 1 MB, an item of 40 tokens: 40 x 4 x 32 x (10 x 4096 + 4 x 14336)."""
    folder_of_a_megabyte(tmp_path)
    model = {"path": str(tmp_path), "dtype": "float32"}
    said = (
        r"needs at least 925 MB of memory \(weights 1 MB, the longest item of 40 tokens 503 MB, libraries 420 MB\), "
        r"but the job may take 850 MB; raise compute.memory \(on a cluster mem_mb\), or set items.max_tokens below 40, "
        "so that the item is left out"
    )
    with pytest.raises(HeadAtlasError, match=said):
        check_share(850, "cpu", model, 40, backward=True)
    check_share(925, "cpu", model, 40, backward=True)
    check_share(850, "cpu", model, 40)
    check_share(850, "cuda:0", model, 40, backward=True)


def test_the_fork_server_loads_no_model_that_cannot_fit(tmp_path, monkeypatch):
    """Libraries 420 MB and weights of 1 MB need 421 MB."""
    folder_of_a_megabyte(tmp_path)
    loaded = []
    monkeypatch.setattr(loading.load_model, "prepare", lambda *given: loaded.append(given))
    model = {"path": str(tmp_path), "dtype": "float32"}
    with pytest.raises(HeadAtlasError, match=r"needs at least 421 MB of memory \(weights 1 MB"):
        loading.hold_model(model, "cpu", 420)
    assert loaded == []
    loading.hold_model(model, "cpu", 421)
    assert loaded == [(model, "cpu")]


def test_tensors_are_counted_as_long_as_they_live():
    """x w and its relu are 20,000 bytes each; a view is none; what lived before counts nothing."""
    w, x = torch.randn(100, 100), torch.randn(50, 100, requires_grad=True)
    with Allocations() as counted:
        y = (x @ w.t()).relu()
        y[:, :3].sum()
        z = y + 1
        del z
        for _ in range(100):
            torch.zeros(1000)
    assert counted.peak == 3 * 20_000  # y, y + 1, and what the sum may need inside
    with Allocations() as counted:
        kept = x.detach().exp()
        kept.add_(1)
    assert counted.peak == 20_000 + 20_000


def test_on_the_cpu_batches_fill_the_room():
    """64 tokens a pass are asked for; a token takes 4,000 bytes: 6 in 10 of 100,000 bytes hold 15, 3 items of 4."""
    sizes = []

    def work(rows, tokens):
        sizes.append((len(rows), tokens))
        torch.zeros(1000 * 4 * len(rows))

    items = random_items([(4, 1)] * 80)
    run_batches(work, items, 64, {torch.device("cpu")}, room=100_000)
    assert sizes == [(16, 64), *[(3, 15)] * 21, (1, 15)]


JOB = """
import sys
from pathlib import Path
from families import random_items
from headatlas.models.device import choose_device
from headatlas.models.loading import load_model
from headatlas.models.memory import LIBRARIES, MB
from headatlas.scoring.trace import trace_task

folder, room = Path(sys.argv[1]), int(sys.argv[2])
model = load_model({"path": str(folder), "dtype": "float32"}, choose_device("cpu"))
model.room = room * MB or None
items = random_items([(100 + row % 9, 1 + row % 5) for row in range(80)])
trace_task(model, items, folder / f"{room}.safetensors", 8192)
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak // MB, (LIBRARIES + model.weight_bytes) // MB + room)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_a_trace_keeps_to_its_memory_and_finds_the_same(tmp_path):
    """A Llama of 8 layers, 384 wide: with 150 MB for passes the whole process keeps to them, without a limit not."""
    sizes = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=8000, num_key_value_heads=6)).save_pretrained(tmp_path)

    def peak(room: int) -> list[int]:
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT / "tests/helpers")])}
        command = [sys.executable, "-c", JOB, tmp_path, str(room)]
        done = subprocess.run(list(map(str, command)), env=environment() | paths, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(map(int, done.stdout.split()))

    took, share = peak(150)
    assert share * 0.75 < took < share
    assert peak(0)[0] > share + 200
    few, many = load_file(tmp_path / "150.safetensors"), load_file(tmp_path / "0.safetensors")
    assert few.keys() == many.keys()
    for name, values in few.items():
        difference = abs(values.astype(float) - many[name].astype(float)).max()
        assert difference < 1e-5, name
        assert difference <= 1e-5 * abs(many[name].astype(float)).max(), name
