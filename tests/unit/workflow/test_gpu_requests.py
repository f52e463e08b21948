"""On a GPU (pretended: no machine here has one) every method keeps its work there and finds the same numbers."""

import bench
import numpy as np
import others
import pytest
import torch
from families import random_items, random_model
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attribution import integrate, path_points
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.probe import fit_probe
from headatlas.scoring.roles import describe_heads
from headatlas.scoring.trace import trace_task
from pretended_gpu import CPU, GPU, PretendedGpu, PretendedMemory
from probe_samples import SETTINGS, planted
from safetensors.numpy import load_file

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]
SETS = [[(0, 1)], [(0, 1), (2, 3)], [(1, 0), (1, 2)], []]
HEAVY = {"linear", "addmm", "embedding", "scaled_dot_product_attention", "softmax", "layer_norm", "einsum", "logsumexp"}


@pytest.fixture
def gpu(monkeypatch):
    """A GPU on which 512 tokens of one pass fit."""
    memory = PretendedMemory(monkeypatch)
    memory.take(GPU, 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Pretended")
    return PretendedGpu()


def all_methods(model: HeadModel, folder) -> dict[str, np.ndarray]:
    """What every method that runs the model finds, both ways."""
    items = random_items(LENGTHS)
    items[3]["split"] = "validate"
    trace_task(model, items, folder / "trace.safetensors", 512)
    found = {f"trace {name}": value for name, value in load_file(folder / "trace.safetensors").items()}
    baseline = np.random.default_rng(1).normal(scale=0.2, size=(1, 3, 4, model.d_head)).astype(np.float32)
    for positions in ("answer", "all"):
        found[f"integrate {positions}"] = integrate(
            model, items, baseline, positions, path_points(items, "line", 3), 512
        )
        for way in ("replay", "hooked"):
            name = f"{way} {positions}"
            found[f"ablate {name}"], _ = ablate_layers(model, items, baseline, range(3), positions, 512, engine=way)
            found[f"knock out {name}"], found[f"correct {name}"], _ = knock_out(
                model, items, SETS, baseline, positions, 512, engine=way
            )
    roles = describe_heads(model, {"a": items}, 0, 512)
    found |= {f"roles {name}": values for name, values in (roles.sequences | roles.tokens).items()}
    scores = roles.tasks["a"].scores
    return found | {f"roles {name} of items": scores[name] for name in ("direct", "sink", "entropy")}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "bloom", "phi3", "falcon_alibi"])
def test_methods_work_on_the_gpu_and_agree_with_the_cpu(family, gpu, tmp_path):
    with gpu:
        there = all_methods(find_heads(gpu.place(random_model(family)), family), tmp_path)
    here = all_methods(find_heads(random_model(family), family), tmp_path)
    assert there.keys() == here.keys()
    for name, values in here.items():
        np.testing.assert_allclose(there[name].astype(float), values.astype(float), rtol=0, atol=1e-5, err_msg=name)
    assert {name: places for name, places in gpu.work.items() if name in HEAVY and places != {GPU}} == {}
    assert HEAVY & set(gpu.work)


def test_the_probe_works_on_the_gpu(gpu):
    outputs, labels, questions = planted(n=60)
    settings = SETTINGS | {"epochs": 3}
    with gpu:
        there = fit_probe(outputs, labels, questions, settings, 0, "cuda:0")
    here = fit_probe(outputs, labels, questions, settings, 0)
    assert np.abs(there.effect - here.effect).max() < 1e-5
    assert {place for name in ("einsum", "bmm", "cross_entropy") for place in gpu.work[name]} == {GPU}


def test_the_benchmark_of_the_pipeline_works_on_the_gpu(gpu):
    model = others.llama(2, 2, 32)
    with gpu:
        gpu.place(model.model)
        rows = bench.pipeline_rows(model, 2, 12, 6, 2, (3.0, 60.0))
    assert [row["bar"] for row in rows] == [3.0, None, None, None, None, 60.0]
    assert gpu.work["linear"] == gpu.work["scaled_dot_product_attention"] == {GPU}
    assert gpu.work["cross_entropy"] == {GPU}


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(gpu):
    with gpu:
        there = torch.ones(3, device="cuda:0")
        assert (there.device, torch.ones(3).device, there.cpu().device) == (GPU, CPU, CPU)
        assert (torch.ones(3).to(there).device, there[torch.tensor([0])].device) == (GPU, GPU)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="index or value"):
            torch.ones(3)[torch.zeros(1, dtype=torch.long, device="cuda:0")]
        with pytest.raises(RuntimeError, match="index or value"):
            there[torch.tensor([0, 1])] = torch.zeros(2)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
