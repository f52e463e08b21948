"""What a head outputs instead when it is patched from another prompt: held to hooks written without the library."""

from functools import partial

import numpy as np
import pytest
import torch
from families import FAMILIES, random_items, random_model
from headatlas.files.effects import attribution_from_terms
from headatlas.models.batches import collate
from headatlas.models.head_model import find_heads
from headatlas.models.replacement import PromptBaseline, corresponding, has_partners, partners
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attribution import gate_slopes, integrate, path_gains, path_points
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.trace import trace_task

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]


def paired_items(same_length: bool, foils: bool) -> list[dict]:
    """Items with another prompt that differs in one token, or in two tokens of which it has one; perhaps with foils."""
    items = random_items(LENGTHS)
    for index, item in enumerate(items):
        prompt = item["prompt_ids"]
        middle = [(prompt[2] + 1) % 50] if same_length else [(prompt[2] + 1) % 50, (prompt[2] + 2) % 50]
        item["counterfactual_ids"] = [*prompt[:2], *middle, *prompt[3:]]
        if foils:
            item["foil_id"] = (item["answer_ids"][-1] + 1 + index) % 50
    return items


def plain_score(model, item: dict) -> float:
    """Mean log-probability of the answer, or logit difference at its last token; one unpadded pass."""
    ids = torch.tensor([item["prompt_ids"] + item["answer_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids[:, :-1]).logits[0, len(item["prompt_ids"]) - 1 :].float()
    if "foil_id" in item:
        return float(logits[-1, item["answer_ids"][-1]] - logits[-1, item["foil_id"]])
    steps = logits.log_softmax(-1)[range(len(item["answer_ids"])), item["answer_ids"]]
    return float(steps.mean())


def plain_patch(model, item: dict, edits: list[tuple[int, slice]], positions: str, projections) -> float:
    """Score when columns of some projections' inputs come from the counterfactual prompt, by plain hooks."""
    own, other = item["prompt_ids"], item["counterfactual_ids"]
    answer = len(item["answer_ids"]) - 1
    pairs = [(len(own) - 1 + step, len(other) - 1 + step) for step in range(answer + 1)]
    if positions == "all":
        same = len(own) == len(other)
        before = [(at, at) for at in range(len(own) if same else 2)]
        after = [(len(own) - 1 - back, len(other) - 1 - back) for back in range(len(own) - 3)]
        pairs += before if same else before + after
    here, there = (list(part) for part in zip(*pairs, strict=True))
    seen = {}
    handles = [
        projections[layer].register_forward_pre_hook(
            lambda _m, args, layer=layer: seen.update({layer: args[0].clone()})
        )
        for layer, _ in edits
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([other + item["answer_ids"][:-1]]))
    for handle in handles:
        handle.remove()

    def patch(_module, args, layer):
        z = args[0].clone()
        for edited, columns in edits:
            if edited == layer:
                z[0, here, columns] = seen[layer][0, there, columns]
        return (z, *args[1:])

    handles = [
        projections[layer].register_forward_pre_hook(partial(patch, layer=layer))
        for layer in {layer for layer, _ in edits}
    ]
    score = plain_score(model, item)
    for handle in handles:
        handle.remove()
    return score


def columns_of(model, layer: int, head: int) -> tuple[int, slice]:
    width = model.attentions[layer].d_head
    return layer, slice(head * width, (head + 1) * width)


@pytest.mark.canary
@pytest.mark.parametrize("foils", [False, True])
@pytest.mark.parametrize("same_length", [True, False])
@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "bloom", "gemma3"])
def test_patching_from_another_prompt_equals_plain_hooks(family, positions, same_length, foils):
    assert family in FAMILIES
    model = find_heads(random_model(family), family)
    items = paired_items(same_length, foils)
    baseline = PromptBaseline(partners(items, "counterfactual"))
    projections = [part.projection for part in model.attentions]
    sets = [[(0, 1), (2, 3), (2, 0)], [(1, 2)]]
    for engine in ("replay", "hooked"):
        effects, report = ablate_layers(model, items, baseline, range(3), positions, 300, engine=engine)
        found, right, _ = knock_out(model, items, sets, baseline, positions, 300, engine=engine)
        assert report.engine == engine
        for row, item in enumerate(items):
            clean = plain_score(model.model, item)
            for layer in range(3):
                for head in range(model.n_heads):
                    edits = [columns_of(model, layer, head)]
                    left = plain_patch(model.model, item, edits, positions, projections)
                    assert effects[row, layer, head] == pytest.approx(clean - left, abs=2e-5)
            for index, heads in enumerate(sets):
                edits = [columns_of(model, *head) for head in heads]
                left = plain_patch(model.model, item, edits, positions, projections)
                assert found[index, row] == pytest.approx(left, abs=2e-5)
                if foils:
                    assert bool(right[index, row]) == (left > 0)
    assert np.abs(effects).max() > 1e-3


@pytest.mark.parametrize("same_length", [True, False])
@pytest.mark.parametrize("positions", ["answer", "all"])
def test_attribution_to_the_other_prompt(positions, same_length, tmp_path):
    """From the trace: the slope at the clean point. Integrated: completeness, against passes with all gates shut."""
    model = find_heads(random_model("llama"), "llama")
    items = paired_items(same_length, foils=True)
    items[1]["split"] = "validate"
    trace_task(model, items, tmp_path / "trace.safetensors", 40)
    scored = [item for item in items if item["split"] == "score"]
    baseline = PromptBaseline(partners(scored, "counterfactual"))
    effect = attribution_from_terms(tmp_path / "trace.safetensors", None, positions)
    batch = collate(scored, list(range(len(scored))))
    replacement = baseline.on(model, batch, positions, range(3))
    expected = gate_slopes(model, batch, replacement, torch.ones(1, 1), positions)[:, 0]
    assert np.abs(effect - expected.numpy()).max() < 1e-5
    assert np.abs(effect).max() > 1e-3
    whole = integrate(model, scored, baseline, positions, path_points(scored, "line", 64), 512)
    gains = path_gains(model, scored, baseline, positions, 512)
    every = [columns_of(model, layer, head) for layer in range(3) for head in range(model.n_heads)]
    projections = [part.projection for part in model.attentions]
    for row, item in enumerate(scored):
        gain = plain_score(model.model, item) - plain_patch(model.model, item, every, positions, projections)
        assert gains[row] == pytest.approx(gain, abs=2e-5)
        assert whole[row].sum() == pytest.approx(gain, abs=5e-3 * max(1, abs(gain)))


def test_corresponding_positions_by_hand():
    assert corresponding([1, 2, 3], [1, 9, 3]) == [0, 1, 2]
    assert corresponding([1, 2, 3, 4], [1, 9, 4]) == [0, -1, -1, 2]
    assert corresponding([1, 9, 4], [1, 2, 3, 4]) == [0, -1, 3]
    assert corresponding([5, 5, 5], [5, 5]) == [0, 1, -1]


def test_items_have_partners_only_if_all_have():
    items = paired_items(True, False)
    assert has_partners(items, "counterfactual")
    assert not has_partners(items, "same_answer")
    del items[0]["counterfactual_ids"]
    assert not has_partners(items, "counterfactual")
