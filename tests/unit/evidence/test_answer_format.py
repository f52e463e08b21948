"""Format control: weights and null by hand, a planted head that serves one format, calibration, the tool."""

import json
import math

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.answer_format import Answered, format_control, matched_weights, shuffled
from headatlas.evidence.bag_of_words import answer_format
from headatlas.stats.ranking import rank_correlation
from script_runs import run_script, write_effects

DIGITS, WORD = (1, True), (1, False)
OPTIONS = {"top": 0.1, "shuffles": 500, "confidence": 0.95, "seed": 0}


def test_answer_format():
    assert [answer_format(a) for a in ("7", "two words", "a 1")] == [(1, True), (2, False), (2, True)]


def test_weights_are_the_mean_over_all_matched_samples():
    mine, theirs = [DIGITS, DIGITS, WORD, WORD, WORD, (3, False)], [DIGITS, WORD, WORD, WORD, WORD]
    assert matched_weights(mine, theirs).tolist() == [0.5, 0.5, 1, 1, 1, 0]  # one of two digits, all words
    assert matched_weights(theirs, mine).tolist() == [1, 0.75, 0.75, 0.75, 0.75]
    assert matched_weights([DIGITS], [WORD]).tolist() == [0]


def test_shuffles_move_whole_questions_to_others_of_the_same_size():
    question = np.array([5, 3, 5, 3, 9, 1, 1, 8])
    weights = np.array([1.0, 0, 0.5, 0, 0.25, 0, 1, 1])
    dealt = shuffled(weights, question, 400, np.random.default_rng(0))
    pairs = {(5, 0.5, 1.0), (3, 0.0, 0.0), (1, 0.0, 1.0)}
    seen = set()
    for row in dealt:
        of = {q: tuple(row[question == q]) for q in (5, 3, 1)}
        assert sorted(of.values()) == [(0, 0), (0, 1), (1, 0.5)]
        assert sorted((row[4], row[7])) == [0.25, 1]
        seen.add(tuple(of.values()))
    assert len(seen) == 6 == math.factorial(len(pairs))


def answers(n: int, digits: float, rng) -> list[tuple]:
    return [DIGITS if draw < digits else WORD for draw in rng.random(n)]


def test_a_head_that_serves_one_format_only_drops_when_that_format_is_gone():
    """Head 7 is the hottest of a task of digits and words, and does nothing for words; `words` has only words."""
    rng = np.random.default_rng(0)
    formats = answers(200, 0.5, rng)
    effects = 0.02 * rng.normal(size=(200, 40)) + np.linspace(0, 1, 40)
    effects[:, 7] = [6.0 if form == DIGITS else 0.0 for form in formats]
    words = Answered(0.02 * rng.normal(size=(200, 40)) + np.linspace(0, 1, 40), np.arange(200), [WORD] * 200)
    rows = format_control({"mixed": Answered(effects, np.arange(200), formats), "words": words}, **OPTIONS)
    mixed, plain = rows
    assert (mixed["task"], mixed["matched_to"], mixed["formats"]) == ("mixed", "words", 1)
    assert (mixed["n_items"], mixed["n_all"]) == (formats.count(WORD), 200)
    assert mixed["top_kept"] == 0.75  # of the top 4, heads 7, 39, 38 and 37, the planted one goes
    full, matched = np.abs(effects.mean(axis=0)), np.abs(effects[[f == WORD for f in formats]].mean(axis=0))
    assert np.argmax(full) == 7
    assert matched[7] == 0
    assert mixed["rank_correlation"] == pytest.approx(float(rank_correlation(full, matched)))
    assert mixed["rank_correlation"] < 0.9 < 0.99 < mixed["expected"]
    assert mixed["top_expected"] == 1
    assert mixed["p_value"] == mixed["p_adjusted"] == pytest.approx(1 / 501)  # the other map is no test
    assert plain["n_items"] == formats.count(WORD)
    assert math.isnan(plain["rank_correlation"])  # words only, whatever it is matched to


def test_a_head_whose_format_only_gets_rarer_shrinks_as_far():
    """Half digits matched to one fifth digits: the planted mean effect falls from 3 to the share of digits times 6."""
    rng = np.random.default_rng(0)
    mine, theirs = [DIGITS, WORD] * 50, [DIGITS] * 20 + [WORD] * 80
    weights = matched_weights(mine, theirs)
    assert weights.sum() == pytest.approx(70)  # 20 digits, 50 words
    effects = np.array([[6.0 if form == DIGITS else 0.0] for form in mine])
    assert (weights @ effects / weights.sum())[0] == pytest.approx(6 * 20 / 70)
    flat = Answered(np.column_stack([effects, rng.random((100, 20))]), np.arange(100), mine)
    row = format_control({"a": flat, "b": flat._replace(formats=theirs)}, **OPTIONS)[0]
    assert row["n_items"] == 70
    assert row["top_kept"] == 1  # still the hottest


def test_formats_that_do_not_matter_are_seldom_called_and_intervals_hold_the_usual_correlation():
    rng = np.random.default_rng(0)
    heads = rng.standard_t(3, size=48) * 0.3
    question = np.repeat(np.arange(60), 2)

    def draw():
        formats = np.repeat(answers(60, 0.5, rng), 2, axis=0)
        noise = np.repeat(rng.normal(size=(60, 48)), 2, axis=0) + rng.normal(size=(120, 48))
        return Answered(heads + noise, question, [tuple(form) for form in formats.tolist()])

    words = Answered(np.ones((120, 48)), question, [WORD] * 120)
    found = [format_control({"a": draw(), "b": words}, **{**OPTIONS, "shuffles": 100})[0] for _ in range(200)]
    called = np.mean([row["p_value"] <= 0.05 for row in found])
    assert called <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean([row["p_value"] for row in found]) == pytest.approx(0.5, abs=0.07)
    truth = np.mean([row["rank_correlation"] for row in found])
    assert np.mean([row["expected"] for row in found]) == pytest.approx(truth, abs=0.01)
    assert np.mean([row["ci_low"] <= truth <= row["ci_high"] for row in found]) >= 0.9


def test_too_few_matched_questions_leave_no_interval():
    rng = np.random.default_rng(0)
    mine = Answered(rng.normal(size=(40, 6)), np.arange(40), [DIGITS] * 7 + [WORD] * 33)
    row = format_control({"a": mine, "b": mine._replace(formats=[DIGITS] * 40)}, **OPTIONS)[0]
    assert row["n_items"] == 7
    assert math.isnan(row["ci_low"])
    assert -1 <= row["rank_correlation"] <= 1


def test_script(tmp_path):
    """Items of the validate split and, with `items: correct`, items the model gets wrong are left out."""
    rng = np.random.default_rng(0)
    items = []
    for task, answer in (("mixed", ["7", "red"]), ("words", ["red", "blue"])):
        rows = [
            {"question_id": str(i), "split": "validate" if i % 5 == 4 else "score", "answer": answer[i % 2]}
            for i in range(100)
        ]
        items.append(tmp_path / f"{task}.json")
        items[-1].write_text(json.dumps({"task": task, "counts": {}, "items": rows}))
        correct = [row["answer"] != "red" or i % 3 > 0 for i, row in enumerate(rows) if row["split"] == "score"]
        effect = rng.normal(size=(80, 2, 3)) + np.arange(3)
        write_effects(tmp_path / "ablation" / f"{task}.safetensors", effect, correct=correct)
    settings = {"effects": {"ablation": ["{task}.safetensors"]}, "tasks": ["mixed", "words"], **OPTIONS}
    for kept, n_all, n_items in (("all", 80, 40), ("correct", 67, 27)):
        outputs = {"items": items, "effects": tmp_path, "table": tmp_path / "f.parquet"}
        done = run_script("format_control", settings | {"items": kept}, **outputs)
        assert done.returncode == 0, done.stderr
        table = pl.read_parquet(tmp_path / "f.parquet")
        assert table.columns == [
            "method", "task", "matched_to", "formats", "n_items", "n_all", "k", "rank_correlation", "ci_low", "ci_high",
            "expected", "p_value", "top_kept", "top_expected", "p_adjusted",
        ]  # fmt: skip
        row = table.row(0, named=True)
        assert (row["task"], row["n_items"], row["n_all"]) == ("mixed", n_items, n_all)
        assert table["rank_correlation"].to_list()[1] is None
