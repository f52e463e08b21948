"""Heads kept alone: sets, faithfulness, CPR and CMD by hand, on planted heads and by plain hooks; the random floor."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from families import plain_scores, planted_chain, planted_items, random_items, random_model
from headatlas.evidence.knock_out_sets import keep_random, keep_top, kept_sizes
from headatlas.evidence.sufficiency import areas_of_curves, kept_heads, sufficiency_curves
from headatlas.files.knock_outs import RANDOM, KnockOut, Target, knocked_out
from headatlas.models.head_model import find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.knock_out import knock_out
from headatlas.workflow import atlas
from kept_samples import kept_file

HOW = (0.95, 0)  # confidence, seed


# ----- the sets


def test_sizes_by_hand():
    assert kept_sizes(48) == [0, 1, 2, 5, 10, 24, 48]  # 1 stands for .1 % to 2 %, rounded
    assert kept_sizes(270) == [0, 1, 3, 5, 14, 27, 54, 135, 270]
    assert kept_sizes(1000) == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert kept_sizes(1) == [0, 1]


def test_top_heads_are_kept_by_signed_and_by_absolute_effect():
    effect = np.array([[-5.0, 0.5, 1, 3], [np.nan] * 4, [2, -0.2, -4, 0]])
    sets = {(one["selection"], one["k"]): one for one in keep_top(effect)}
    assert {key for key in sets if key[0] == "signed"} == {("signed", k) for k in (0, 1, 2, 4, 8)}
    assert sets["signed", 4]["heads"] == [[0, 3], [2, 0], [0, 2], [0, 1]]
    assert sets["absolute", 4]["heads"] == [[0, 0], [2, 2], [0, 3], [2, 0]]
    every = [(layer, head) for layer in (0, 2) for head in range(4)]
    assert knocked_out(sets["signed", 4], every) == [(0, 0), (2, 1), (2, 2), (2, 3)]
    assert knocked_out(sets["absolute", 0], every) == every
    assert knocked_out(sets["absolute", 8], every) == []
    assert knocked_out(sets["absolute", 1] | {"kind": "out"}, every) == [(0, 0)]


def test_random_rankings_are_nested_and_hold_every_head_equally_often():
    norms = np.ones((6, 8))
    norms[2] = np.nan
    sets = keep_random(norms, 400, (0, 1))
    assert sets == keep_random(norms, 400, (0, 1)) != keep_random(norms, 400, (0, 2))
    held = np.zeros((6, 8))
    for draw in range(400):
        chain = [{tuple(head) for head in one["heads"]} for one in sets if one["draw"] == draw]
        assert [len(heads) for heads in chain] == [0, 1, 2, 4, 8, 20, 40]
        assert all(smaller <= larger for smaller, larger in pairwise(chain))
        held[tuple(zip(*chain[5], strict=True))] += 1
    assert (held[2] == 0).all()
    np.testing.assert_allclose(np.delete(held, 2, axis=0), 200, atol=4 * 10)  # half of the heads; 4 standard deviations


def test_random_rankings_go_by_one_name():
    assert RANDOM == atlas.RANDOM


# ----- made-up models: keeping a head adds its strength


def test_faithfulness_cpr_and_cmd_by_hand():
    # Strengths 2, 1, 0 and -1 of four heads: scores 0, 2, 3, 3, 2 for k = 0 to 4 by the signed ranking (sizes 0, 1, 2,
    # 4: f = 0, 1, 1.5, 1), and by the absolute one 0, 2, 3 or 1 (ties by place: the head of strength 1 comes first), 2.
    strengths = np.array([[2.0, 1], [0, -1]])
    table = sufficiency_curves([kept_file(strengths)], *HOW)
    signed, absolute = (table.filter(ranking=ranking) for ranking in ("signed", "absolute"))
    assert signed["k"].to_list() == [0, 1, 2, 4]
    assert signed["share"].to_list() == [0, 0.25, 0.5, 1]
    assert signed["score"].to_list() == pytest.approx([-1, 1, 2, 1])
    assert signed["faithfulness"].to_list() == pytest.approx([0, 1, 1.5, 1])
    assert absolute["faithfulness"].to_list() == pytest.approx([0, 1, 1.5, 1])
    (row,) = areas_of_curves([kept_file(strengths)], "zero", *HOW).to_dicts()
    assert row["cpr"] == pytest.approx(0.25 * 0.5 + 0.25 * 1.25 + 0.5 * 1.25)
    assert row["cmd"] == pytest.approx(0.25 * 0.5 + 0.25 * 0.25 + 0.5 * 0.25)
    assert (row["whole"], row["empty"], row["span"]) == pytest.approx((1, -1, 2))
    assert (row["baseline"], row["heads"], row["rankings"], row["note"]) == ("zero", 4, 1, None)
    assert [row[f"cpr_{end}"] for end in ("low", "high")] == pytest.approx([row["cpr"]] * 2)  # nothing varies


def test_a_harmful_head_ranks_last_for_cpr_and_first_for_cmd():
    strengths = np.array([[-4.0, 3, 2, 1, 0, 0, 0, 0, 0, 3]])  # sum 5; sizes 0, 1, 2, 5, 10
    table = sufficiency_curves([kept_file(strengths)], *HOW)
    assert table.filter(ranking="signed")["faithfulness"].to_list() == pytest.approx([0, 0.6, 1.2, 1.8, 1])
    assert table.filter(ranking="absolute")["faithfulness"].to_list() == pytest.approx([0, -0.8, -0.2, 1, 1])


def test_the_floor_of_an_additive_model_is_one_half():
    """A random head adds the mean strength, so the mean faithfulness of all rankings is the share of heads kept."""
    strengths = np.random.default_rng(0).exponential(size=(5, 8)) ** 2
    file = kept_file(strengths, method=RANDOM, rankings=200, noise=0.2)
    (row,) = areas_of_curves([file], "mean", *HOW).to_dicts()
    assert row["cpr_low"] < 0.5 < row["cpr_high"]
    assert row["cpr_high"] - row["cpr_low"] < 0.1
    assert row["rankings"] == 200
    curve = (
        sufficiency_curves([file], *HOW).group_by("k", maintain_order=True).agg(pl.col("share", "faithfulness").mean())
    )
    np.testing.assert_allclose(curve["faithfulness"], curve["share"], atol=0.06)


def test_the_floor_is_the_mean_over_rankings_each_by_itself():
    strengths = np.random.default_rng(1).normal(0.3, 1, size=(3, 4))
    file = kept_file(strengths, method=RANDOM, rankings=7)
    (row,) = areas_of_curves([file], "mean", *HOW).to_dicts()
    cprs, cmds = [], []
    for draw in range(7):
        chain = [one for one in file.sets if one["draw"] == draw]
        f = np.array([sum(strengths[tuple(head)] for head in one["heads"]) for one in chain]) / strengths.sum()
        share = np.array([one["k"] / 12 for one in chain])
        cprs.append(np.trapezoid(f, share))
        cmds.append(np.trapezoid(abs(1 - f), share))
    assert row["cpr"] == pytest.approx(np.mean(cprs))
    assert row["cmd"] == pytest.approx(np.mean(cmds))
    error = np.std(cprs, ddof=1) / np.sqrt(7)  # only the rankings vary
    assert row["cpr_high"] - row["cpr"] == pytest.approx(2.093 * error, rel=1e-3)  # t with 19 degrees of freedom


@pytest.mark.parametrize("scale", [0.0, -1.0, 0.02])
def test_nothing_is_defined_where_the_ends_do_not_differ(scale):
    """Where all heads together do nothing, do harm, or help less than the noise of the questions."""
    file = kept_file(scale * np.ones((2, 4)), noise=0.0 if scale < 0.01 else 20.0)
    (row,) = areas_of_curves([file], "mean", *HOW).to_dicts()
    assert np.isnan([row[name] for name in ("cpr", "cpr_low", "cmd", "cmd_high")]).all()
    assert row["note"] == "undefined: the score with all heads is not clearly above that without any"
    assert row["span_low"] <= 0
    assert sufficiency_curves([file], *HOW)["faithfulness"].is_nan().all()


def test_few_questions_give_figures_without_intervals():
    (row,) = areas_of_curves([kept_file(np.array([[1.0, 2]]), n=14)], "mean", *HOW).to_dicts()
    assert row["cpr"] == pytest.approx(0.5 * 0.5 * 2 / 3 + 0.5 * 0.5 * (2 / 3 + 1))
    assert np.isnan([row["cpr_low"], row["span_high"]]).all()
    assert (row["n_questions"], row["note"]) == (7, "7 questions, too few for an interval")


def test_intervals_cover_the_truth():
    """Calibration: over other questions, 95 % intervals hold the true CPR and CMD in about 95 % of cases."""
    strengths = np.array([[2.0, 1, -1, 0.5, 0, 0]])
    (truth,) = areas_of_curves([kept_file(strengths)], "mean", *HOW).to_dicts()
    covered = {"cpr": 0, "cmd": 0}
    for seed in range(200):
        (row,) = areas_of_curves([kept_file(strengths, noise=1.0, seed=seed)], "mean", *HOW).to_dicts()
        assert not row["cmd_low"] < 0
        for name in covered:
            covered[name] += row[f"{name}_low"] <= truth[name] <= row[f"{name}_high"]
    assert 0.89 * 200 <= covered["cpr"] <= 0.99 * 200
    assert 0.89 * 200 <= covered["cmd"] <= 0.995 * 200


# ----- models


def run_on(model, items, sets, baseline, positions, way) -> KnockOut:
    """The sets run on a model as the script does."""
    every = [(layer, head) for layer in model.attention_layers for head in range(model.n_heads)]
    heads = [knocked_out(one, every) for one in sets]
    score, correct, report = knock_out(model, items, heads, baseline, positions, 300, engine=way)
    target = Target(np.arange(len(sets)), score, correct, np.arange(len(items)))
    return KnockOut("ablation", "t", None, sets, {"t": target}, {"t": report.as_dict()})


@pytest.mark.parametrize("way", ["replay", "hooked"])
def test_two_planted_heads_suffice_and_all_others_do_not(way):
    """One head passes the token to the other, which answers: f is 1 with both and 0 with one or none of them."""
    model, items = find_heads(planted_chain()), planted_items()
    zero = np.zeros((1, 3, 4, 8), np.float32)
    effects, _ = ablate_layers(model, items, zero, range(3), "all", 999)
    effect = effects.mean(axis=0)
    assert sorted(map(tuple, np.argwhere(effect > 0.1).tolist())) == [(0, 1), (2, 3)]
    file = run_on(model, items, keep_top(effect), zero, "all", way)
    for ranking in ("signed", "absolute"):
        kept = kept_heads(file, ranking, *HOW)
        assert kept.ks.tolist() == [0, 1, 2, 6, 12]
        np.testing.assert_allclose(kept.faithfulness.value, [0, 0, 1, 1, 1], atol=1e-5)
    (row,) = areas_of_curves([file], "zero", *HOW).to_dicts()
    assert row["cpr"] == pytest.approx(0.5 / 12 + 10 / 12, abs=1e-5)
    assert row["cmd"] == pytest.approx(1 / 12 + 0.5 / 12, abs=1e-5)
    worst = [one for one in keep_top(-effect) if one["selection"] == "signed"]
    file = run_on(model, items, worst, zero, "all", way)
    np.testing.assert_allclose(kept_heads(file, "signed", *HOW).faithfulness.value, [0, 0, 0, 0, 1], atol=1e-5)


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_equals_plain_hooks_and_a_plain_integral(family, positions):
    model = find_heads(random_model(family), family)
    items = random_items([(9, 3), (5, 1), (12, 2)])
    baseline = np.random.default_rng(3).normal(scale=2, size=(1, 3, 4, model.d_head)).astype(np.float32)
    with torch.no_grad():  # answers that the model gives, so that its heads help
        for item in items:
            for place in range(len(item["answer_ids"])):
                ids = torch.tensor([item["prompt_ids"] + item["answer_ids"][:place]])
                item["answer_ids"][place] = int(model.model(input_ids=ids).logits[0, -1].argmax())
    ranking = np.random.default_rng(4).permutation(12)
    effect = np.empty(12)
    effect[ranking] = np.arange(12, 0, -1.0)
    (row,) = areas_of_curves(
        [run_on(model, items, keep_top(effect.reshape(3, 4)), baseline, positions, "replay")], "mean", *HOW
    ).to_dicts()
    scores = []
    for k in (0, 1, 2, 6, 12):
        others = [divmod(int(head), 4) for head in ranking[k:]]
        scores.append(np.mean([plain_scores(model, item, others, baseline, positions)[0] for item in items]))
    f = (np.array(scores) - scores[0]) / (scores[-1] - scores[0])
    share = np.array([0, 1, 2, 6, 12]) / 12
    assert scores[-1] - scores[0] > 0.5
    assert row["cpr"] == pytest.approx(np.trapezoid(f, share), abs=1e-4)
    assert row["cmd"] == pytest.approx(np.trapezoid(abs(1 - f), share), abs=1e-4)
