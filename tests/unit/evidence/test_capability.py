"""Whether the model does a task: values by hand, an independent interval, and the rule that a map hangs on."""

import math

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.capability import COLUMNS, WRITTEN, incapable, measure, wilson_interval
from headatlas.tasks.items import write_items
from safetensors.numpy import save_file
from script_runs import run_script


@pytest.mark.parametrize(("right", "n"), [(0, 54), (1, 54), (27, 54), (53, 54), (54, 54), (3, 7)])
def test_wilson_s_ends_are_the_shares_whose_test_just_reaches_the_level(right, n):
    """The ends p solve (share - p)^2 = z^2 p (1 - p) / n: the score test's own edge."""
    low, high = wilson_interval(right / n, n, 0.95)
    for end in (low, high):
        if 0 < end < 1:
            assert (right / n - end) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / n, rel=1e-5)
    assert low <= right / n <= high
    assert (low == 0) == (right == 0)
    assert (high == 1) == (right == n)


def test_measure_by_hand():
    """Ten questions of two items each; loss 1 and 3 by question: mean 2, standard error 1 / sqrt(9)."""
    score = -np.repeat([1.0, 3.0] * 5, 2)
    correct = np.array([1, 0, 0, 0, 1, 1, 0, 0] + [1, 0] * 6)
    answers = ["x", "y", "x", "z", "x ", "u", "v", "w"] + [f"a{i}" for i in range(12)]
    row = measure(score, correct, np.repeat(range(10), 2), answers, 0.95, "log_prob")
    assert list(row) == [name for name in COLUMNS if name != "task"]
    assert (row["n_questions"], row["n_items"], row["accuracy"], row["chance"]) == (10, 20, 9 / 20, 3 / 20)
    assert (row["accuracy_low"], row["accuracy_high"]) == wilson_interval(9 / 20, 10, 0.95)
    assert row["capable"]  # 0.207 > 0.15
    assert row["score"] == -2
    factor = math.exp(2.262 / 3 / 2)  # Student's t with 9 degrees of freedom
    assert row["score_low"] == pytest.approx(-2 * factor, rel=0.005)
    assert row["score_high"] == pytest.approx(-2 / factor, rel=0.005)


def test_a_margin_is_held_against_one_half_and_has_a_symmetric_interval():
    margin = np.repeat([1.0, -0.5, 2.0, 1.5], 5)
    row = measure(margin, margin > 0, np.arange(20), ["yes"] * 20, 0.95, "margin")
    assert (row["metric"], row["score"], row["accuracy"], row["chance"]) == ("margin", 1.0, 0.75, 0.5)
    reach = 2.093 * margin.std(ddof=1) / 20**0.5  # Student's t with 19 degrees of freedom
    assert [row["score_low"], row["score_high"]] == pytest.approx([1 - reach, 1 + reach], rel=1e-3)
    assert row["capable"]  # 0.53 > 0.5, though "yes" is always right
    assert not measure(-margin, margin < 0, np.arange(20), ["yes"] * 20, 0.95, "margin")["capable"]


@pytest.mark.parametrize(
    ("right", "answers", "capable"),
    [
        (0, [f"a{i}" for i in range(60)], False),  # free answers, none right
        (1, [f"a{i}" for i in range(60)], False),  # one lucky hit is not above the 1 in 60 of one answer for all
        (6, [f"a{i}" for i in range(60)], True),
        (33, ["yes", "no"] * 30, False),  # always yes scores 30
        (45, ["yes", "no"] * 30, True),
        (50, ["yes"] * 50 + ["no"] * 10, False),  # always yes scores 50
    ],
)
def test_a_task_is_done_where_the_interval_lies_above_the_most_frequent_answer(right, answers, capable):
    correct = np.arange(60) < right
    assert measure(np.full(60, -1.0), correct, np.arange(60), answers, 0.95, "log_prob")["capable"] is capable


def test_one_question_and_a_sure_model_leave_no_interval():
    one = measure(np.array([-1.0, -2.0]), np.array([1, 1]), np.zeros(2, int), ["a", "b"], 0.95, "log_prob")
    assert math.isnan(one["score_low"])
    assert not one["capable"]
    sure = measure(np.zeros(9), np.ones(9), np.arange(9), list("abcdefghi"), 0.95, "log_prob")
    assert (sure["score"], math.isnan(sure["score_low"]), sure["capable"]) == (0, True, True)


def test_answers_that_the_model_did_not_write_are_not_right_and_have_no_score():
    """Ten items are asked, two of them without an answer and so without a score; five are right."""
    correct, references = np.arange(10) < 5, ["a"] * 4 + list("bcdefg")
    found = measure(np.full(8, -1.0), correct, np.arange(8), references, 0.95, "log_prob", asked=np.arange(10))
    assert (found["n_items"], found["n_questions"], found["accuracy"], found["chance"]) == (10, 10, 0.5, 0.4)
    ends = (found["accuracy_low"], found["accuracy_high"])
    assert ends == pytest.approx((0.2366, 0.7634), abs=1e-4)  # Wilson's, of 5 of 10
    assert (found["score"], found["capable"]) == (-1, False)


def test_script_counts_what_was_written_by_its_check(tmp_path):
    trace = tmp_path / "trace.safetensors"
    arrays = {"score": np.full(19, -0.5, np.float32), "correct": np.ones(19, np.uint8), "question": np.arange(19)}
    save_file(arrays, trace)
    items, answers = tmp_path / "items.json", tmp_path / "answers.json"
    write_items(items, {"task": "own", "counts": {}, "items": [{"answer": "written"}] * 19})
    judged = [{"question_id": str(n), "reference": str(n), "correct": n < 15} for n in range(20)]
    write_items(answers, {"task": "own", "counts": {"correct": 15, "empty": 1}, "items": judged})
    settings = {"tasks": ["own"], "confidence": 0.95, "metric": "log_prob", "generated": {"own": "number"}}
    table = tmp_path / "table.parquet"
    done = run_script("measure_capability", settings, traces=trace, items=items, answers=answers, table=table)
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(table)
    assert dict(found.schema) == COLUMNS | WRITTEN
    row = found.row(0, named=True)
    assert (row["accuracy"], row["n_items"], row["chance"]) == (0.75, 20, 0.05)
    assert (row["check"], row["n_empty"]) == ("number", 1)


def test_script(tmp_path):
    traces, items = [], []
    for task, right in (("good", 1), ("bad", 0)):
        traces.append(tmp_path / f"{task}.safetensors")
        items.append(tmp_path / f"{task}.json")
        save_file(
            {
                "score": np.full(20, -0.5, np.float32), "correct": np.full(20, right, np.uint8),
                "question": np.arange(20),
            },
            traces[-1],
        )  # fmt: skip
        rows = [{"answer": str(i)} for i in range(20)]
        write_items(items[-1], {"task": task, "counts": {}, "items": rows})
    settings = {"tasks": ["good", "bad"], "confidence": 0.95, "metric": "log_prob"}
    table = tmp_path / "table.parquet"
    done = run_script("measure_capability", settings, traces=traces, items=items, table=table)
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(table)
    assert dict(found.schema) == COLUMNS
    assert incapable(found) == ["bad"]
    items[1].rename(traces[1])
    done = run_script("measure_capability", settings, traces=traces, items=[items[0]] * 2, table=table)
    assert "bad.safetensors: is not a trace" in done.stderr
