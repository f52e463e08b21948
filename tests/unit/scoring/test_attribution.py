"""Attribution: planted head, the gradient by finite differences, convergence, completeness, any baseline, any path."""

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
from headatlas.scoring.attribution import gate_slopes, integrate, path_gains, path_points
from headatlas.scoring.trace import trace_task

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3"])
def model(request):
    return find_heads(random_model(request.param))


def line(items, steps):
    return path_points(items, "line", steps)


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
    slopes = gate_slopes(model, batch, replacement, torch.tensor([[0.3, 1.0]]), positions)
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
    expected = gate_slopes(model, batch, replacement, torch.ones(1, 1), positions)[:, 0]
    assert np.abs(effect - expected.numpy()).max() < 1e-5
    assert np.abs(effect).max() > 1e-2


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_completeness(model, positions):
    """With many steps the heads' effects add up to the log-probability with all gates open less all shut."""
    items = random_items(LENGTHS)
    baseline = random_baseline(model, len(items))
    effect = integrate(model, items, baseline, positions, line(items, 64), 512)
    gains = path_gains(model, items, baseline, positions, 512)
    for row, item in enumerate(items):
        ends = [faded_log_prob(model, item, baseline[row], np.full((3, 4), gate), positions) for gate in (1, 0)]
        assert effect[row].sum() == pytest.approx(ends[0] - ends[1], abs=2e-2)
        assert gains[row] == pytest.approx(ends[0] - ends[1], abs=1e-5)
        # One step does not have this property on these models, so the test can fail.
    rough = integrate(model, items, baseline, positions, line(items, 1), 512)
    ends = [faded_log_prob(model, items[0], baseline[0], np.full((3, 4), gate), positions) for gate in (1, 0)]
    assert abs(rough[0].sum() - (ends[0] - ends[1])) > abs(effect[0].sum() - (ends[0] - ends[1]))


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_converges_to_ablation_where_one_head_does_it_all(positions):
    """On the planted model the path of all gates is the path of one head, so the integral is the exact effect."""
    model = find_heads(planted_model())
    items = planted_items()
    zero = np.zeros((1, 3, 4, 8), np.float32)
    exact, _ = ablate_layers(model, items, zero, range(3), positions, 1000)
    found = [integrate(model, items, zero, positions, line(items, steps), 1000) for steps in (8, 128, 512)]
    errors = [np.abs(effect - exact).max() for effect in found]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-2 * exact.max()
    with torch.no_grad():
        expected = float(plain_log_prob(model.model, items[0])) + math.log(8)
    assert exact[0][PLANTED] == pytest.approx(expected, abs=1e-5)


def test_too_few_steps_show_in_the_completeness_error(tmp_path):
    """All that the planted head does happens close to its baseline: 8 steps miss it, and say so."""
    model, items, zero = find_heads(planted_model()), planted_items(), np.zeros((1, 3, 4, 8), np.float32)
    gain = path_gains(model, items, zero, "answer", 1000)
    assert gain == pytest.approx(np.full(len(items), math.log(8)), abs=1e-4)  # from chance among 8 to certainty
    errors = {}
    for steps in (8, 512):
        effect = integrate(model, items, zero, "answer", line(items, steps), 1000)
        write_effects(tmp_path / "e", effect, np.arange(len(items)), np.ones(len(items)), gain=gain)
        errors[steps] = read_completeness(tmp_path / "e", read_effects(tmp_path / "e"))
    assert errors[8] > 0.9
    assert errors[512] < 0.01


@pytest.mark.parametrize("steps", [1, 8])
def test_planted_head_alone_is_found(steps):
    model = find_heads(planted_model(scale=0.5))  # at its end the path is not yet flat
    items = planted_items()
    effect = integrate(model, items, np.zeros((1, 3, 4, 8), np.float32), "answer", line(items, steps), 1000)
    others = np.ones((3, 4), bool)
    others[PLANTED] = False
    assert (effect[:, PLANTED[0], PLANTED[1]] > 0.01).all()
    assert np.abs(effect[:, others]).max() == 0


@pytest.mark.parametrize("rule", ["plain", "gim"])
@pytest.mark.parametrize("path", ["line", "expected"])
def test_batch_size_does_not_matter(model, path, rule):
    items = random_items(LENGTHS)
    baseline, points = random_baseline(model, len(items)), path_points(items, path, 4)
    large, small = (integrate(model, items, baseline, "all", points, size, rule=rule) for size in (4096, 1))
    assert np.abs(large - small).max() < 1e-5


def test_points_of_a_line_are_midpoints_or_the_end():
    items = random_items([(5, 1), (6, 1)])
    assert line(items, 1).tolist() == [[1], [1]]
    assert line(items, 4).tolist() == [[0.125, 0.375, 0.625, 0.875]] * 2


def test_drawn_points_are_an_items_own_and_one_in_each_piece():
    items = random_items([(5, 1)] * 200)
    points = path_points(items, "expected", 4, seed=3)
    assert (np.floor(points * 4) == np.arange(4)).all()
    within = points * 4 - np.arange(4)
    assert abs(within.mean() - 0.5) < 4 * (1 / 12 / within.size) ** 0.5
    assert within.std() == pytest.approx(12**-0.5, rel=0.05)
    assert (path_points(items[150:100:-1], "expected", 4, seed=3) == points[150:100:-1]).all()
    assert not (path_points(items, "expected", 4, seed=4) == points).any()


def test_one_drawn_point_has_the_slope_that_follows_by_hand():
    """The planted head writes r m where its token is read, beside the token itself (1): its logit is s r m / rms."""
    scale, epsilon = 0.2, 1e-6
    model, items = find_heads(planted_model(scale)), planted_items()
    points = path_points(items, "expected", 1, seed=5)
    effect = integrate(model, items, np.zeros((1, 3, 4, 8), np.float32), "answer", points, 1000)
    written = (1 / 32 + epsilon) ** -0.5

    def score(gate):
        logit = scale * written * gate / ((1 + (written * gate) ** 2) / 32 + epsilon) ** 0.5
        return logit - math.log(math.exp(logit) + 7)

    for row, point in enumerate(points[:, 0].astype(float)):
        slope = (score(point + 1e-4) - score(point - 1e-4)) / 2e-4
        assert effect[row][PLANTED] == pytest.approx(slope, abs=1e-5)
    # And many draws give the whole difference, which no single gradient gives.
    drawn = [{**items[0], "id": f"draw {index}"} for index in range(4000)]
    found = integrate(
        model, drawn, np.zeros((1, 3, 4, 8), np.float32), "answer", path_points(drawn, "expected", 1), 8000
    )[:, *PLANTED]
    error = float(found.std()) / len(drawn) ** 0.5
    assert found.mean() == pytest.approx(score(1) - score(0), abs=4 * error)
    assert error < 0.03 * (score(1) - score(0))
    assert abs(effect[0][PLANTED] - (score(1) - score(0))) > 10 * error


def test_expected_gradients_estimate_the_line_integral_without_bias(model):
    one = random_items([(6, 2)])[0]
    drawn = [{**one, "id": f"draw {index}"} for index in range(400)]
    baseline = random_baseline(model, 1)
    effect = integrate(model, drawn, baseline, "all", path_points(drawn, "expected", 1), 4096)
    whole = integrate(model, [one], baseline, "all", line([one], 128), 4096)[0]
    mean, error = effect.mean(0), effect.std(0, ddof=1) / len(drawn) ** 0.5
    assert (np.abs(mean - whole) < 4 * error).all()
    assert error.max() < 0.1 * np.abs(whole).max()
    at_end = integrate(model, [one], baseline, "all", line([one], 1), 4096)[0]
    assert (np.abs(at_end - whole) > 8 * error).any()  # a biased estimate would be seen
    thrice = integrate(model, drawn, baseline, "all", path_points(drawn, "expected", 3), 4096)
    assert (np.abs(thrice.mean(0) - whole) < 4 * thrice.std(0, ddof=1) / len(drawn) ** 0.5 + 1e-3 * np.abs(whole)).all()
    assert thrice.std(0).sum() < 0.7 * effect.std(0).sum()  # a point from each piece: less noise than 3 ** -0.5 at best
