"""The probe finds a planted informative head, holds questions out, treats its seeds as one model, and has a null."""

import numpy as np
import pytest
import torch
from headatlas.scoring.probe import (
    Probe,
    ProbeResult,
    _gradient_times_activation,
    _Standardised,
    fit_probe,
    fit_probes,
    probe_report,
    question_folds,
)
from headatlas.scoring.probe_null import gather_null, null_effects, permuted_labels
from probe_samples import INFORMATIVE, SETTINGS, planted


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


def test_scores_by_hand_do_not_move_with_what_all_logits_share():
    """Two heads put out 2 and 3. Logits are 1 * 2 + 5 * 3 and 3 * 2 + 1 * 3; less their mean, the first's slopes are
    1 - 2 and 5 - 3, the second's 3 - 2 and 1 - 3; times the outputs -2 and 6, 2 and -6.
    """
    probe = Probe([0], (1, 2, 1), 2, 1, 2)
    weights = {"head_map": [[1.0]], "first": [[1.0, 0], [0, 1]], "second": [[1.0, 3], [5, 1]]}
    outputs = torch.tensor([2.0, 3]).reshape(1, 1, 2, 1).repeat(2, 1, 1, 1)
    data = _Standardised(outputs, torch.tensor([[True, True]]), False)
    for shared in ([0.0, 0], [7, -4]):
        for name, parameter in probe.named_parameters():
            parameter.data = torch.tensor([weights[name]]) if name in weights else torch.zeros_like(parameter)
        probe.second.data += torch.tensor(shared)[:, None]
        scores, predicted = _gradient_times_activation(probe, data, torch.tensor([0, 1]), 0, torch.arange(2))
        assert scores.flatten(1).tolist() == [[-2, 6], [2, -6]]
        assert predicted.tolist() == [0, 0]


def test_report_counts(fitted):
    result, labels = fitted
    report = probe_report(result, labels, ["a", "b", "c"], [0.5, 0.25])
    assert (report["permutations"], report["null_accuracy"]) == (2, [0.5, 0.25])
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


def test_a_fold_of_a_single_item_is_scored():
    outputs, labels, _ = planted(n=10)
    settings = SETTINGS | {"seeds": 10, "epochs": 1}
    result = fit_probe(outputs, labels, [f"q{i}" for i in range(10)], settings, seed=0)
    assert (np.abs(result.effect).sum((1, 2)) > 0).all()


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


# ----- the null


def test_permuted_labels_keep_groups_whole_and_their_numbers():
    """Question q3 has items of two labels, which separate; otherwise a question stays together."""
    questions = ["q0", "q0", "q1", "q2", "q3", "q3", "q3", "q4"]
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    groups = [[0, 1], [2], [3], [4], [5, 6], [7]]
    drawn = permuted_labels(labels, questions, 500, seed=0)
    for row in drawn:
        assert all(len(set(row[group])) == 1 for group in groups)
        assert sorted(row[group[0]] for group in groups) == [0, 0, 1, 1, 2, 2]
    for group in groups:  # each label as often in each place: 2 of 6 groups have it
        share = np.bincount(drawn[:, group[0]], minlength=3) / 500
        assert share == pytest.approx([1 / 3] * 3, abs=3.5 * np.sqrt(2 / 9 / 500))
    assert np.array_equal(permuted_labels(labels, questions, 3, seed=0), drawn[:3])
    assert not np.array_equal(permuted_labels(labels, questions, 500, seed=1), drawn)
    assert permuted_labels(labels, questions, 0, seed=0).shape == (0, 8)


def test_null_effects_by_hand():
    """Items of labels 0, 0, 0, 1, 1; questions a, a, b, c, c; head 1 never has an effect."""
    effect = np.zeros((5, 1, 2), np.float32)
    effect[:, 0, 0] = [1, 3, 5, 2, 4]
    found = null_effects(effect, np.array([0, 0, 0, 1, 1]), list("aabcc"), np.array([1, 0, 1, 0, 0]), 3)
    # Sums 4 of two items and 5 of one: mean 3, residuals -2 and 2, error sqrt(2 * 8) / 3. Label 1 has one question.
    nan = np.nan
    assert np.array_equal(found["null_effect_all"][:, 0], [[3, 0], [3, 0], [nan, nan]], equal_nan=True)
    error = np.array([[4 / 3, 0], [nan, nan], [nan, nan]], np.float32)
    assert np.array_equal(found["null_error_all"][:, 0], error, equal_nan=True)
    # Of the correct items 1 and 5 remain, one a question: mean 3, error sqrt(2 * (4 + 4)) / 2.
    assert np.array_equal(found["null_effect_correct"][:, 0], [[3, 0], [nan, nan], [nan, nan]], equal_nan=True)
    assert np.array_equal(found["null_error_correct"][0, 0], [2, 0])


def test_the_null_of_each_task_holds_its_refits_in_order():
    effect = np.arange(8, dtype=np.float32).reshape(4, 1, 2)
    refits = [
        (np.array(labels), ProbeResult(effect, np.array([0, 0, 1, 1]), [], []))
        for labels in ([0, 0, 1, 1], [0, 1, 0, 1])
    ]
    null, accuracy = gather_null(refits, list("abcd"), np.ones(4), 2)
    assert accuracy == [1, 0.5]
    assert [tensors["null_effect_all"].tolist() for tensors in null] == [[[[1, 2]], [[2, 3]]], [[[5, 6]], [[4, 5]]]]
    assert gather_null([], list("abcd"), np.ones(4), 2) == ([{}, {}], [])


def test_refits_leave_the_fit_as_it_is_and_know_no_labels(fitted):
    outputs, labels, questions = planted()
    permuted = permuted_labels(labels, questions, 2, seed=0)
    first, *refits = fit_probes(outputs, [labels, *permuted], questions, SETTINGS, seed=0)
    assert first.effect.tobytes() == fitted[0].effect.tobytes()
    chance = np.bincount(labels).max() / len(labels)
    for row, refit in zip(permuted, refits, strict=True):
        assert (refit.predicted == row).mean() < chance + 0.12
    same = next(fit_probes(outputs, [permuted[0]], questions, SETTINGS, seed=0))
    assert same.effect.tobytes() != refits[0].effect.tobytes()  # each refit has its own initialisation
