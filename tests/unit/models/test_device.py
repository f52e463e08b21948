"""How many GPUs a job holds, which ones, and how much of their memory a pass fills. The devices are emulated."""

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile

import pytest
import torch
from families import random_items
from headatlas.errors import HeadAtlasError
from headatlas.jobs import shared
from headatlas.jobs.workers import Place
from headatlas.models import device
from headatlas.models.batches import run_batches
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.resources import Requests, count_gpus
from pretended_gpu import PretendedMemory
from workflow_runs import PATIENCE, REDUCED, ROOT, environment


@pytest.mark.parametrize(
    ("shown", "count"),
    [("", 0), ("-1", 0), ("0", 1), ("2,3", 2), ("0,-1,1", 1), ("GPU-8932f937, MIG-41b3b2a1", 2)],
)
def test_gpus_that_the_environment_shows(monkeypatch, shown, count):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert count_gpus() == count


def test_gpus_of_the_machine_are_counted_by_their_files(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_gpus(tmp_path) == 2


@pytest.mark.parametrize(
    ("entry", "here", "elsewhere"),
    [
        ({"device": "auto"}, 1, 1),
        ({"device": "cpu"}, 0, 0),
        ({"device": "cuda:2"}, 3, 1),
        ({"device": "cuda"}, 3, 1),
        ({"device": "auto", "device_map": "auto"}, 3, 1),
    ],
)
def test_gpus_that_a_job_holds(monkeypatch, entry, here, elsewhere):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.chdir(ROOT)
    models = {"demo": {"path": "workflow/resources/demo-model"} | entry}
    atlas = Atlas(REDUCED | {"models": models}, ROOT)
    assert [Requests(atlas, at_home).job_gpus("demo") for at_home in (True, False)] == [here, elsewhere]


def claimant(names: list[str], folder, claims) -> None:
    claims.put((os.getpid(), device.claim_gpu(names, folder)))
    signal.pause()  # holds its claim until it is killed


@pytest.fixture
def claim(tmp_path):
    """A function: starts a process that claims a GPU and lives on; returns it and the GPU's index."""
    context, living = multiprocessing.get_context("fork"), []
    claims = context.Queue()

    def start(names: list[str]):
        process = context.Process(target=claimant, args=(names, tmp_path, claims))
        process.start()
        living.append(process)
        return process, claims.get(timeout=PATIENCE)[1]

    yield start
    for process in living:
        process.kill()
        process.join()


def test_claims_spread_over_gpus_before_any_is_shared(claim):
    names = ["0", "1", "2"]
    assert [claim(names)[1] for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_killed_job_gives_its_gpu_back(claim):
    first = claim(["0", "1"])[0]
    claim(["0", "1"])
    first.kill()
    first.join()
    assert claim(["0", "1"])[1] == 0


def test_a_gpu_is_known_by_its_name_and_not_by_its_place(claim):
    """Two jobs that are each shown one of two GPUs both see it as their first."""
    assert claim(["GPU-a", "GPU-b"])[1] == 0
    assert claim(["GPU-b", "GPU-a"])[1] == 0
    assert claim(["GPU-b", "GPU-a", "GPU-c"])[1] == 2


def test_names_of_visible_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert device.visible_gpus(2) == ["3", "5"]
    assert device.visible_gpus(1) == ["0"]  # torch sees fewer than are shown: then by their places
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert device.visible_gpus(2) == ["0", "1"]


def test_devices_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [device.choose_device(wanted) for wanted in ("auto", "spread", "cpu")] == ["cpu"] * 3
    with pytest.raises(HeadAtlasError, match="cuda:1 is requested, but torch sees no CUDA GPU; use auto or cpu"):
        device.choose_device("cuda:1")


def test_devices_with_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose_device("cuda:1") == "cuda:1"
    assert device.choose_device("spread") == "spread"
    assert device.choose_device("cpu") == "cpu"


def test_all_jobs_of_a_process_run_on_the_gpu_that_it_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(device, "_claims", [])
    device._own_gpu.cache_clear()
    assert [device.choose_device("auto") for _ in range(3)] == ["cuda:0"] * 3
    assert len(list(tmp_path.iterdir())) == 1
    device._own_gpu.cache_clear()  # as another process, while the first one lives
    assert device.choose_device("auto") == "cuda:1"
    device._own_gpu.cache_clear()


@pytest.mark.parametrize(
    ("wanted", "gpu", "kinds", "has_worker"),
    [
        ("auto", True, None, True),
        ("spread", True, None, True),
        ("cuda:1", True, None, True),
        ("cpu", True, None, False),
        ("auto", False, None, False),
        ("auto", False, "cpu", True),
        ("cpu", True, "cpu,cuda", True),
        ("cuda", True, "cpu", False),
    ],
)
def test_jobs_on_a_gpu_run_in_a_worker(monkeypatch, wanted, gpu, kinds, has_worker):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.delenv(device.WORKERS, raising=False)
    if kinds:
        monkeypatch.setenv(device.WORKERS, kinds)
    model = {"path": "a", "dtype": "float32"}
    assert device.place_of_job(wanted, model) == (
        Place(wanted, json.dumps(model, sort_keys=True)) if has_worker else None
    )
    assert device.place_of_job(wanted) == (Place(wanted) if has_worker else None)


@pytest.mark.parametrize(("held", "let_go"), [(200, []), (500, []), (501, ["model"])])
def test_a_probe_finds_half_of_its_gpu_free(monkeypatch, held, let_go):
    """Of GPUs of 1000 bytes."""
    PretendedMemory(monkeypatch)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held)
    gone = []
    monkeypatch.setattr(shared, "let_go", lambda: gone.append("model"))
    device.make_room("cpu")
    assert gone == []
    device.make_room("cuda:0")
    assert gone == let_go


def sizes_of_batches(lengths, batch_tokens, devices, take, **more) -> list[tuple[int, int]]:
    """(items, tokens a pass may have) of each batch that `run_batches` makes; `take(rows, tokens)` is its work."""
    items = random_items([(length, 1) for length in lengths])
    sizes = []

    def work(rows, tokens):
        sizes.append((len(rows), tokens))
        take(rows, tokens)

    run_batches(work, items, batch_tokens, devices, **more)
    assert sum(count for count, _ in sizes) == len(items)
    return sizes


def test_on_the_cpu_batches_are_as_large_as_asked_for():
    assert sizes_of_batches([4] * 40, 64, {torch.device("cpu")}, lambda *_: None) == [(16, 64), (16, 64), (8, 64)]


def test_on_a_gpu_batches_fill_its_memory(monkeypatch):
    """64 tokens are requested. The first 8 take 160 bytes, 20 per token; 800 - 200 bytes hold 30, by halves 16."""
    gpu, memory = torch.device("cuda:0"), PretendedMemory(monkeypatch)
    sizes = sizes_of_batches([4] * 12, 64, {gpu}, lambda rows, tokens: memory.take(gpu, 20 * tokens))
    assert sizes == [(2, 8), (4, 16), (4, 16), (2, 16)]
    assert memory.resets == [gpu]
    assert memory.peak[gpu] == 320


def test_on_a_gpu_with_room_batches_are_as_large_as_asked_for(monkeypatch):
    gpu, memory = torch.device("cuda:0"), PretendedMemory(monkeypatch)
    sizes = sizes_of_batches([4] * 34, 64, {gpu}, lambda rows, tokens: memory.take(gpu, 9 * tokens))
    assert sizes == [(2, 8), (16, 64), (16, 64)]


def test_the_fullest_gpu_sets_the_size(monkeypatch):
    one, two, memory = torch.device("cuda:0"), torch.device("cuda:1"), PretendedMemory(monkeypatch)

    def take(rows, tokens):
        memory.take(one, 5 * tokens)
        memory.take(two, 40 * tokens)

    assert sizes_of_batches([4] * 6, 64, {one, two, torch.device("cpu")}, take) == [(2, 8), (2, 8), (2, 8)]


def test_an_item_longer_than_the_first_batch_is_measured_by_its_length(monkeypatch):
    """An item of 32 tokens takes 640 bytes: 20 per token, not 80."""
    gpu, memory = torch.device("cuda:0"), PretendedMemory(monkeypatch)
    sizes = sizes_of_batches([32] * 2, 64, {gpu}, lambda rows, tokens: memory.take(gpu, 20 * 32 * len(rows)))
    assert sizes == [(1, 8), (1, 16)]


def test_where_one_item_fills_several_passes_batches_are_smaller(monkeypatch):
    gpu, memory = torch.device("cuda:0"), PretendedMemory(monkeypatch)
    sizes = sizes_of_batches([4] * 6, 256, {gpu}, lambda *_: memory.take(gpu, 1), copies=8)
    assert sizes == [(1, 32), (5, 256)]


TENSOR = """
import ctypes, sys, torch
from headatlas.models.device import choose_device

class Info(ctypes.Structure):  # struct mallinfo2 of glibc 2.33
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks mapped b c d free e".split()]

info = ctypes.CDLL(None).mallinfo2
info.restype = Info
if sys.argv[1] == "job":
    choose_device("cpu")
before = info()
x = torch.ones(1024, 1024)
mapped = info().mapped - before.mapped
del x
print(mapped, info().free - before.free)
"""
FOUR_MB = 1 << 22


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library does not tell (glibc 2.33 does)")
def test_a_job_keeps_freed_memory_for_the_next_tensor():
    """Where a tensor of 4 MB comes from: new pages of the system, given back at once, or a heap that keeps them."""
    path = {"PYTHONPATH": str(ROOT / "scripts")}

    def tensor(kind: str) -> list[int]:
        command = [sys.executable, "-c", TENSOR, kind]
        done = subprocess.run(command, env=environment() | path, capture_output=True, check=True, text=True)
        return list(map(int, done.stdout.split()))

    (mapped, kept), (mapped_plain, kept_plain) = tensor("job"), tensor("plain")
    assert mapped_plain >= FOUR_MB > mapped
    assert kept > FOUR_MB / 2 > kept_plain  # some of it may come from what was free before
