"""Surface control: the fit is the optimum, folds are by question, accuracies of tasks made up by hand."""

import json
import math

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.evidence.bag_of_words import bags_of_words, fit, matched_format, predict_held_out, surface_control, words
from script_runs import run_script

SETTINGS = {"folds": 5, "confidence": 0.95, "seed": 0, "matched": False}


def item(prompt: str, answer: str, question: object) -> dict:
    return {"prompt": prompt, "answer": answer, "question_id": str(question)}


def accuracies(rows: list[dict]) -> dict[tuple[str, str], float]:
    return {(row["task"], row["input"]): row["accuracy"] for row in rows}


def test_words():
    assert words("What is 12+3?  It's Ü_1.") == [
        "what",
        "is",
        "12",
        "+",
        "3",
        "?",
        "it",
        "'",
        "s",
        "ü_1",
        ".",
    ]


def test_bags_by_hand():
    bags = bags_of_words(["b a a", "", "a b c", "a once"])  # `c` and `once` are in one text only
    assert bags.tolist() == pytest.approx(np.array([[1, 1], [0, 0], [1, 1], [2**0.5, 0]]).tolist() / np.sqrt(2))


def penalised_loss(bags, task, weights, intercepts) -> float:
    scores = bags.astype(float) @ weights + intercepts
    chosen = scores[np.arange(len(task)), task]
    return float((np.log(np.exp(scores).sum(axis=1)) - chosen).sum() + (weights**2).sum() / 2)


def test_fit_is_the_minimum_of_the_penalised_loss():
    rng = np.random.default_rng(0)
    task = rng.integers(3, size=120)
    bags = bags_of_words([" ".join(f"w{rng.integers(20) + 5 * t}" for _ in range(6)) for t in task])
    weights, intercepts = (part.astype(float) for part in fit(bags, task, 3))
    best = penalised_loss(bags, task, weights, intercepts)
    assert best < penalised_loss(bags, task, np.zeros_like(weights), np.zeros(3)) * 0.8
    for _ in range(50):
        for size in (1e-2, 1e-1):
            aside = weights + size * rng.normal(size=weights.shape)
            shifted = intercepts + size * rng.normal(size=3)
            assert penalised_loss(bags, task, aside, shifted) > best - 1e-3


def test_without_words_the_fit_is_the_frequencies():
    _, intercepts = fit(np.zeros((4, 1), dtype=np.float32), np.array([0, 0, 0, 1]), 2)
    assert intercepts[0] - intercepts[1] == pytest.approx(math.log(3), abs=0.01)


def test_words_that_tell_a_task_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    noise = [" ".join(f"n{rng.integers(30)}" for _ in range(5)) for _ in range(400)]
    items = {
        "math": [item(noise[i], str(rng.integers(90)) + " digits", f"m{i}") for i in range(100)],
        "logic": [item(noise[100 + i], ["true", "false"][i % 2], f"l{i}") for i in range(100)],
        "recall": [item(noise[200 + i], ["paris", "rome"][i % 2], f"r{i}") for i in range(200)],
    }
    rows = surface_control(items, **SETTINGS)
    found = accuracies(rows)
    assert found["(all)", "answer"] == 1
    assert found["math", "answer"] == 1
    assert found["(all)", "both"] == pytest.approx(1, abs=0.02)
    assert 0.35 < found["(all)", "prompt"] < 0.58  # the majority's half, or worse
    assert {row["majority"] for row in rows} == {0.5}
    overall = next(row for row in rows if (row["task"], row["input"]) == ("(all)", "prompt"))
    assert overall["ci_low"] < overall["accuracy"] < overall["ci_high"]
    assert overall["n_items"] == 400


def test_a_question_is_never_in_training_and_test():
    """Ten copies of each question, with a word of its own and a random task: only copies can be learnt."""
    rng = np.random.default_rng(0)
    question = np.repeat(np.arange(60), 10)
    task = rng.integers(2, size=60)[question]
    texts = [f"own{q}" for q in question]
    assert (predict_held_out(texts, task, question, 5, 0) == task).mean() < 0.7
    assert (predict_held_out(texts, task, np.arange(600), 5, 0) == task).mean() > 0.99  # what leaking would give


def test_matched_format_by_hand():
    answers = ["1", "2", "3", "one", "two words", "4", "a", "b", "5 6"]
    task = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    chosen = matched_format(answers, task, 0)
    kept = sorted((int(task[i]), len(answers[i].split()), answers[i].isdigit()) for i in chosen)
    assert kept == [(0, 1, False), (0, 1, True), (1, 1, False), (1, 1, True)]  # one of each format in both
    with pytest.raises(HeadAtlasError, match="no answer format"):
        matched_format(["1", "a"], np.array([0, 1]), 0)


def test_matching_takes_away_what_only_the_format_tells():
    rng = np.random.default_rng(0)
    digits = lambda i: str(rng.integers(9))  # noqa: E731
    letters = lambda i: "abcdefghi"[rng.integers(9)]  # noqa: E731
    items = {
        "x": [item("p", digits(i) if i < 180 else letters(i), f"x{i}") for i in range(200)],
        "y": [item("p", digits(i) if i < 20 else letters(i), f"y{i}") for i in range(200)],
    }
    assert accuracies(surface_control(items, **SETTINGS))["(all)", "answer"] > 0.85
    matched = surface_control(items, **{**SETTINGS, "matched": True})
    assert accuracies(matched)["(all)", "answer"] < 0.65
    assert matched[0]["n_items"] == 40


def test_script(tmp_path):
    for task, answer in (("b", "yes"), ("a", "7")):
        rows = [item("same words", answer, i) for i in range(30)]
        (tmp_path / f"{task}.json").write_text(json.dumps({"task": task, "counts": {}, "items": rows}))
    files = [tmp_path / "b.json", tmp_path / "a.json"]
    done = run_script("surface_control", SETTINGS, items=files, table=tmp_path / "s.parquet")
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "s.parquet")
    assert table.columns == ["task", "input", "accuracy", "majority", "ci_low", "ci_high", "n_items"]
    assert table["task"].to_list() == ["b", "a", "(all)"] * 3
    assert table["ci_low"].min() >= 0
    assert table["ci_high"].max() <= 1
    assert table.filter(input="answer")["accuracy"].to_list() == [1, 1, 1]
