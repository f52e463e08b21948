"""Ablation is exact: planted heads, an independent slow reference, and invariances."""

import math

import numpy as np
import pytest
import torch
from families import (
    FAMILIES,
    PLANTED,
    plain_effect,
    plain_log_prob,
    planted_items,
    planted_model,
    random_items,
    random_model,
)
from headatlas.models.head_model import find_heads
from headatlas.scoring import ablation
from headatlas.scoring.ablation import ablate_layers

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]


def random_baseline(model, items, seed=1):
    rng = np.random.default_rng(seed)
    shape = (len(items), model.n_layers, model.n_heads, model.d_head)
    return rng.normal(scale=0.2, size=shape).astype(np.float32)


@pytest.mark.parametrize("way", ["replay", "hooked"])
@pytest.mark.parametrize("positions", ["answer", "all"])
def test_planted_head_has_all_the_effect(positions, way):
    """Without it the logits are all zero: its effect is the clean log-probability plus log(vocabulary)."""
    model = find_heads(planted_model())
    items = planted_items()
    zero = np.zeros((1, 3, 4, 8), np.float32)
    effects, _ = ablate_layers(model, items, zero, range(3), positions, 1000, engine=way)
    with torch.no_grad():
        expected = [float(plain_log_prob(model.model, item)) + math.log(8) for item in items]
    assert min(expected) > 1
    assert effects[:, PLANTED[0], PLANTED[1]] == pytest.approx(expected, abs=1e-5)
    others = np.ones((3, 4), bool)
    others[PLANTED] = False
    assert np.abs(effects[:, others]).max() == 0


@pytest.mark.canary
@pytest.mark.parametrize("attention", [None, "eager"])  # None: the family's own choice
@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_replay_holds_in_every_family_and_equals_one_hooked_pass_per_head(family, positions, attention):
    model = find_heads(random_model(family, attention), family)
    items = random_items(LENGTHS)
    baseline = random_baseline(model, items)
    effects, report = ablate_layers(model, items, baseline, range(model.n_layers), positions, 300, engine="replay")
    assert (report.engine, report.reason, report.padded) == ("replay", None, True)
    for row, item in enumerate(items):
        for layer, part in enumerate(model.attentions):
            for head in range(model.n_heads):
                columns = slice(head * part.d_head, (head + 1) * part.d_head)
                expected = plain_effect(
                    model.model, part.projection, item, columns, baseline[row, layer, head], positions
                )
                assert abs(effects[row, layer, head] - expected) < 1e-5, (row, layer, head)
    assert np.abs(effects).max() > 1e-2


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3"])
def test_hooked_equals_one_hooked_pass_per_head(family, positions):
    model = find_heads(random_model(family), family)
    items = random_items(LENGTHS)
    baseline = random_baseline(model, items)
    effects, report = ablate_layers(model, items, baseline, range(1, 2), positions, 60, engine="hooked")
    assert (report.engine, report.reason) == ("hooked", None)
    part = model.attentions[1]
    for row, item in enumerate(items):
        for head in range(model.n_heads):
            columns = slice(head * part.d_head, (head + 1) * part.d_head)
            expected = plain_effect(model.model, part.projection, item, columns, baseline[row, 1, head], positions)
            assert abs(effects[row, 0, head] - expected) < 1e-5


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_batch_size_and_order_of_items_do_not_matter(positions):
    model = find_heads(random_model("llama"))
    items = random_items(LENGTHS)
    baseline = random_baseline(model, items)
    whole = ablate_layers(model, items, baseline, range(3), positions, 4096)[0]
    small = ablate_layers(model, items, baseline, range(3), positions, 1)[0]
    assert np.abs(whole - small).max() < 1e-5
    order = [2, 0, 3, 1]
    shuffled = ablate_layers(model, [items[i] for i in order], baseline[order], range(3), positions, 4096)[0]
    assert np.abs(whole[order] - shuffled).max() < 1e-5
    blocks = [ablate_layers(model, items, baseline, range(i, i + 1), positions, 4096)[0] for i in range(3)]
    assert np.abs(np.concatenate(blocks, 1) - whole).max() < 1e-5


def test_same_inputs_same_bytes():
    model = find_heads(random_model("llama"))
    items = random_items(LENGTHS)
    baseline = random_baseline(model, items)
    first, second = (ablate_layers(model, items, baseline, range(3), "answer", 4096)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch):
    model = find_heads(random_model("llama"))
    items = random_items([(6, 1)] * 4)
    baseline = random_baseline(model, items)
    expected, _ = ablate_layers(model, items, baseline, range(3), "answer", 4096, engine="replay")
    replayed, sizes = ablation._replayed, []

    def small_memory(model, items, rows, *rest):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is")
        return replayed(model, items, rows, *rest)

    monkeypatch.setattr(ablation, "_replayed", small_memory)
    effects, _ = ablate_layers(model, items, baseline, range(3), "answer", 4096, engine="replay")
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert np.abs(effects - expected).max() < 1e-5
