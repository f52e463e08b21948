"""Attribution: planted head, the gradient by finite differences, convergence, completeness, any baseline."""

import math

import numpy as np
import pytest
import torch
from families import PLANTED, plain_log_prob, planted_items, planted_model, random_items, random_model
from headatlas.files.effects import attribution_from_terms, write_effects
from headatlas.files.scores import read_completeness, read_effects
from headatlas.models.batches import collate, score_answers
from headatlas.models.head_model import find_heads
from headatlas.models.replacement import VectorBaseline
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attribution import gate_slopes, integrate
from headatlas.scoring.trace import trace_task

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def model(request):
    return find_heads(random_model(request.param))


def random_baseline(model, n_items):
    shape = (n_items, model.n_layers, model.n_heads, model.d_head)
    return np.random.default_rng(2).normal(scale=0.2, size=shape).astype(np.float32)


def faded_log_prob(model, item, baseline, gates, positions):
    """Log-probability with every head at b + gate * (z - b); gates [layer, head]; written without `attribution`."""
    batch = collate([item], [0])
    start = len(item["prompt_ids"]) - 1 if positions == "answer" else 0

    def edit_of(layer):
        def edit(z):
            rest = torch.tensor(baseline[layer])
            gate = torch.as_tensor(gates[layer], dtype=z.dtype)[:, None]
            return torch.cat([z[:, :start], rest + gate * (z[:, start:] - rest)], dim=1)

        return edit

    with torch.no_grad(), model.edit_head_outputs({layer: edit_of(layer) for layer in range(model.n_layers)}):
        logits = batch.gather(model.logits(batch.input_ids, batch.attention_mask))
    return float(score_answers(logits, batch)[0])


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_slopes_are_the_finite_differences(model, positions):
    items = random_items(LENGTHS)
    baseline = random_baseline(model, len(items))
    batch = collate(items, [0, 1])
    replacement = VectorBaseline(baseline).on(model, batch, positions, range(3))
    slopes = gate_slopes(model, batch, replacement, torch.tensor([0.3, 1.0]), positions)
    for row in (0, 1):
        for index, gate in enumerate((0.3, 1.0)):
            for layer, head in ((0, 1), (1, 3), (2, 0)):
                gates = np.full((3, 4), gate)
                ends = []
                for step in (1e-2, -1e-2):
                    gates[layer, head] = gate + step
                    ends.append(faded_log_prob(model, items[row], baseline[row], gates, positions))
                expected = (ends[0] - ends[1]) / 2e-2
                assert float(slopes[row, index, layer, head]) == pytest.approx(expected, abs=2e-3, rel=2e-2)


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_trace_terms_give_the_slope_at_the_clean_point(model, positions, tmp_path):
    """One step is attribution patching: (z - b) . gradient, for a baseline that the trace never saw."""
    items = random_items(LENGTHS)
    items[1]["split"] = "validate"  # not scored, and must not shift the rows of the others
    trace_task(model, items, tmp_path / "trace.safetensors", 40)
    score = [item for item in items if item["split"] == "score"]
    baseline = random_baseline(model, len(score))
    effect = attribution_from_terms(tmp_path / "trace.safetensors", baseline, positions)
    batch = collate(score, list(range(len(score))))
    replacement = VectorBaseline(baseline).on(model, batch, positions, range(3))
    expected = gate_slopes(model, batch, replacement, torch.ones(1), positions)[:, 0]
    assert np.abs(effect - expected.numpy()).max() < 1e-5
    assert np.abs(effect).max() > 1e-2


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_completeness(model, positions):
    """With many steps the heads' effects add up to the log-probability with all gates open less all shut."""
    items = random_items(LENGTHS)
    baseline = random_baseline(model, len(items))
    effect, gains = integrate(model, items, baseline, positions, 64, 512)
    for row, item in enumerate(items):
        ends = [faded_log_prob(model, item, baseline[row], np.full((3, 4), gate), positions) for gate in (1, 0)]
        assert effect[row].sum() == pytest.approx(ends[0] - ends[1], abs=2e-2)
        assert gains[row] == pytest.approx(ends[0] - ends[1], abs=1e-5)
        # One step does not have this property on these models, so the test can fail.
    rough, _ = integrate(model, items, baseline, positions, 1, 512)
    ends = [faded_log_prob(model, items[0], baseline[0], np.full((3, 4), gate), positions) for gate in (1, 0)]
    assert abs(rough[0].sum() - (ends[0] - ends[1])) > abs(effect[0].sum() - (ends[0] - ends[1]))


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_converges_to_ablation_where_one_head_does_it_all(positions):
    """On the planted model the path of all gates is the path of one head, so the integral is the exact effect."""
    model = find_heads(planted_model())
    items = planted_items()
    zero = np.zeros((1, 3, 4, 8), np.float32)
    exact, _ = ablate_layers(model, items, zero, range(3), positions, 1000)
    errors = [np.abs(integrate(model, items, zero, positions, steps, 1000)[0] - exact).max() for steps in (8, 128, 512)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-2 * exact.max()
    with torch.no_grad():
        expected = float(plain_log_prob(model.model, items[0])) + math.log(8)
    assert exact[0][PLANTED] == pytest.approx(expected, abs=1e-5)


def test_too_few_steps_show_in_the_completeness_error(tmp_path):
    """All that the planted head does happens close to its baseline: 8 steps miss it, and say so."""
    model, items, zero = find_heads(planted_model()), planted_items(), np.zeros((1, 3, 4, 8), np.float32)
    errors = {}
    for steps in (8, 512):
        effect, gain = integrate(model, items, zero, "answer", steps, 1000)
        assert gain == pytest.approx(np.full(len(items), math.log(8)), abs=1e-4)  # from chance among 8 to certainty
        write_effects(tmp_path / "e", effect, np.arange(len(items)), np.ones(len(items)), gain=gain)
        errors[steps] = read_completeness(tmp_path / "e", read_effects(tmp_path / "e"))
    assert errors[8] > 0.9
    assert errors[512] < 0.01


@pytest.mark.parametrize("steps", [1, 8])
def test_planted_head_alone_is_found(steps):
    model = find_heads(planted_model(scale=1.0))
    effect, _ = integrate(model, planted_items(), np.zeros((1, 3, 4, 8), np.float32), "answer", steps, 1000)
    others = np.ones((3, 4), bool)
    others[PLANTED] = False
    assert (effect[:, PLANTED[0], PLANTED[1]] > 0.01).all()
    assert np.abs(effect[:, others]).max() == 0


def test_batch_size_does_not_matter(model):
    items = random_items(LENGTHS)
    baseline = random_baseline(model, len(items))
    large, small = (integrate(model, items, baseline, "all", 4, size)[0] for size in (4096, 1))
    assert np.abs(large - small).max() < 1e-5
