"""The probe finds a planted informative head, holds questions out, and treats its seeds as one batched model."""

import numpy as np
import pytest
import torch
from headatlas.probe import Probe, fit_probe, probe_report, question_folds

SETTINGS = {
    "seeds": 3,
    "dimensions": 8,
    "hidden": 16,
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "patience": 5,
    "standardise": True,
}
INFORMATIVE = (1, 2)


def planted(n=360, classes=3, signal=2.0, seed=0):
    """Head outputs of noise, but one head's shifted by the item's class; two items a question."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, classes, n // 2), 2)
    outputs = rng.normal(size=(n, 2, 4, 6)).astype(np.float32)
    centres = rng.normal(size=(classes, 6))
    outputs[:, INFORMATIVE[0], INFORMATIVE[1]] += signal * centres[labels]
    return outputs, labels, [f"q{i // 2}" for i in range(n)]


@pytest.fixture(scope="module")
def fitted():
    outputs, labels, questions = planted()
    return fit_probe(outputs, labels, questions, SETTINGS, seed=0), labels


def test_planted_head_stands_out(fitted):
    result, labels = fitted
    mean = np.abs(np.stack([result.effect[labels == c].mean(0) for c in range(3)])).mean(0)
    layer, head = INFORMATIVE
    assert mean[INFORMATIVE] > 5 * mean[1 - layer].max()
    # Heads of its own layer see a quarter of it through the layer's mean over heads, by the method's design.
    assert mean[INFORMATIVE] > 2 * np.delete(mean[layer], head).max()
    assert (result.predicted == labels).mean() > 0.9


def test_report_counts(fitted):
    result, labels = fitted
    report = probe_report(result, labels, ["a", "b", "c"])
    assert report["accuracy"] == pytest.approx((result.predicted == labels).mean())
    assert report["majority"] == pytest.approx(np.bincount(labels).max() / len(labels))
    for index, task in enumerate("abc"):
        rows = labels == index
        assert report["accuracy_per_task"][task] == pytest.approx((result.predicted[rows] == index).mean())
        assert sum(report["confusion"][task].values()) == rows.sum()


def test_same_seed_same_bytes_other_seed_other_numbers(fitted):
    outputs, labels, questions = planted()
    again = fit_probe(outputs, labels, questions, SETTINGS, seed=0)
    assert again.effect.tobytes() == fitted[0].effect.tobytes()
    assert fit_probe(outputs, labels, questions, SETTINGS, seed=1).effect.tobytes() != again.effect.tobytes()


def test_noise_is_not_told_apart():
    """Without a signal held-out accuracy is chance: an item's own question never helps to predict it."""
    outputs, labels, questions = planted(signal=0.0)
    outputs[1::2] = outputs[::2]  # both items of a question are the same: a leak between folds would show
    predicted = fit_probe(outputs, labels, questions, SETTINGS, seed=0).predicted
    chance = np.bincount(labels).max() / len(labels)
    assert (predicted == labels).mean() < chance + 0.12


def test_scales_of_features_do_not_matter_when_standardised():
    """A head of tiny outputs but full information is found as well (in float32, to within rounding)."""
    outputs, labels, questions = planted()
    outputs[:, INFORMATIVE[0], INFORMATIVE[1]] *= 2**-10
    result = fit_probe(outputs, labels, questions, SETTINGS, seed=0)
    mean = np.abs(result.effect.mean(0))
    strength = np.abs(np.stack([result.effect[labels == c].mean(0) for c in range(3)])).mean(0)
    assert np.unravel_index(strength.argmax(), mean.shape) == INFORMATIVE
    assert (result.predicted == labels).mean() > 0.8


def test_folds_keep_questions_whole_and_even():
    questions = [f"q{i // 3}" for i in range(30)]
    folds = question_folds(questions, 5, seed=0)
    assert all(len(set(folds[i : i + 3])) == 1 for i in range(0, 30, 3))
    assert np.bincount(folds).tolist() == [6] * 5


def test_a_seed_of_the_batched_model_is_the_probe_alone():
    """Linear map, ReLU layer and classes of one seed, computed with plain matrix products."""
    probe = Probe([3, 4], (2, 3, 5), classes=4, dimensions=6, hidden=7)
    rng = torch.Generator().manual_seed(0)
    heads, means = torch.randn(2, 9, 2, 3, 5, generator=rng), torch.randn(2, 9, 2, 5, generator=rng)
    together = probe.classify(probe.features(heads, means))
    for seed in range(2):
        joined = torch.cat([heads[seed], means[seed][:, :, None].expand(-1, -1, 3, -1)], dim=-1)
        matrix = torch.cat([probe.head_map[seed], probe.layer_map[seed]])
        features = joined @ matrix + probe.map_bias[seed]
        hidden = torch.relu(features.flatten(1) @ probe.first[seed] + probe.first_bias[seed])
        expected = hidden @ probe.second[seed] + probe.second_bias[seed]
        assert torch.allclose(together[seed], expected, atol=1e-5)
        alone = probe.only(seed)
        assert torch.allclose(
            alone.classify(alone.features(heads[seed : seed + 1], means[seed : seed + 1]))[0], expected, atol=1e-5
        )
