"""Each recipe of workflow/recipes.md runs as it stands, and gives what our hooks give."""

import re
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from headatlas.files.head_list import write_head_list
from headatlas.models.head_model import find_heads
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from workflow_runs import ROOT, environment

DEMO = ROOT / "workflow/resources/demo-model"
HEADS = [(4, 3), (1, 0), (1, 6), (0, 5)]  # several in a layer, and not in order
PROMPT = "sam lead , ned 6 3 , liz 1 6 , eva pear , ray poppy ? find ned"
NAMES = {"transformers": "transformers", "TransformerLens": "transformer_lens", "nnsight": "nnsight"}
END = """
from safetensors.torch import save_file
save_file({"log_probs": log_probs.contiguous()}, "found.safetensors")
"""


def recipes() -> dict[str, str]:
    """The code of each recipe, with the lines that all begin with."""
    text = (ROOT / "workflow/recipes.md").read_text(encoding="utf-8")
    first, *parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    code = {name: blocks(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}
    return {name: blocks(first) + part for name, part in code.items()}


def blocks(text: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a run leaves for the recipes, with means that are far from what the heads put out."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "workflow").symlink_to(ROOT / "workflow")
    means = np.random.default_rng(0).normal(size=(6, 8, 16)).astype(np.float32)
    save_file({"mean_all": means, "mean_answer": -means}, folder / "baseline.safetensors")
    heads = [{"layer": layer, "head": head} for layer, head in HEADS]
    place = folder / "results/demo/heads"
    write_head_list(
        place / "retrieval.json", place / "retrieval.safetensors", {}, heads, folder / "baseline.safetensors"
    )
    return folder


@pytest.fixture(scope="module")
def log_probs(folder):
    """[token]: of the next token, by our own hooks; and without them."""
    model = find_heads(AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32), "demo")
    means = torch.from_numpy(load_file(folder / "baseline.safetensors")["mean_all"])
    ids = AutoTokenizer.from_pretrained(DEMO)(PROMPT, return_tensors="pt")["input_ids"]

    def edit(layer):
        own = [head for edited, head in HEADS if edited == layer]

        def replace(z):
            z = z.clone()
            z[:, :, own] = means[layer, own]
            return z

        return replace

    with torch.no_grad():
        clean = model.logits(ids, torch.ones_like(ids))
        with model.edit_head_outputs({layer: edit(layer) for layer, _ in HEADS}):
            edited = model.logits(ids, torch.ones_like(ids))
    return [logits[0, -1].log_softmax(-1).numpy() for logits in (edited, clean)]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_gives_what_our_hooks_give(name, folder, log_probs):
    if find_spec(NAMES[name]) is None:
        pytest.skip(f"{NAMES[name]} is not installed")
    end = (
        "from safetensors.torch import save_file\nsave_file({'log_probs': log_probs.contiguous()}, 'found.safetensors')"
    )
    (folder / "recipe.py").write_text(f"{recipes()[name]}\n{end}\n")
    done = subprocess.run(
        [sys.executable, "recipe.py"], cwd=folder, env=environment(), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found, (edited, clean) = load_file(folder / "found.safetensors")["log_probs"], log_probs
    print(f"{name}: largest difference {np.abs(found - edited).max():.2g} nats")
    assert np.abs(found - edited).max() < 1e-4
    assert np.abs(edited - clean).max() > 0.1


def test_every_recipe_is_tested():
    assert [*recipes()] == [*NAMES]
    assert all(code.endswith("log_softmax(-1)\n") or "hook.remove()" in code for code in recipes().values())
