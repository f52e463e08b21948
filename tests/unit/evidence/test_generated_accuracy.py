"""Right answers without heads, counted and compared by hand; and what the findings say of them."""

import json
import math

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.claims import generated
from headatlas.evidence.generated import COLUMNS, Judged, generated_accuracy
from scipy import stats
from script_runs import run_script

NONE = {"kind": "out", "selection": "none", "draw": 0, "k": 0, "heads": []}
TOP = {"kind": "out", "selection": "top", "draw": 0, "k": 2, "heads": [[0, 1], [1, 0]]}
RANDOM = [TOP | {"selection": "random", "draw": draw, "heads": [[0, draw], [1, 3]]} for draw in (0, 1)]
SETS = [NONE, TOP, *RANDOM]


def judged(right: list[int], questions: int = 24) -> Judged:
    """Two items a question; the first so many items are right under each set."""
    items = 2 * questions
    correct = np.arange(items)[None] < np.array(right)[:, None]
    return Judged(SETS, correct, np.repeat(np.arange(questions), 2))


def test_shares_and_differences_by_hand():
    found = {("ablation", "a"): judged([48, 12, 40, 36]), ("ablation", "b"): judged([24, 24, 24, 24])}
    table = generated_accuracy(found, 0.95)
    assert dict(table.schema) == COLUMNS
    first = table.filter(task="a")
    assert first["selection"].to_list() == ["none", "top", "random", "random"]
    assert first["draw"].to_list() == [0, 0, 0, 1]
    assert first["k"].to_list() == [0, 2, 2, 2]
    assert first["accuracy"].to_list() == [1, 0.25, 40 / 48, 0.75]
    assert (first["n_items"].unique().to_list(), first["n_questions"].unique().to_list()) == ([48], [24])
    z = stats.norm.ppf(0.975)  # Wilson's interval of 6 of 24 questions
    middle, half = 0.25 + z**2 / 48, z * math.sqrt(0.25 * 0.75 / 24 + z**2 / (4 * 24**2))
    ends = [(middle - half) / (1 + z**2 / 24), (middle + half) / (1 + z**2 / 24)]
    top = first.row(1, named=True)
    assert [top["accuracy_low"], top["accuracy_high"]] == pytest.approx(ends)
    # Of 24 questions 6 are right all the time, 12 with random heads only, 2 with the first draw only, 4 never.
    differences = [0] * 6 + [1] * 12 + [0.5] * 2 + [0] * 4
    assert top["below_random"] == pytest.approx(np.mean(differences)) == pytest.approx(13 / 24)
    assert 0 < top["below_random_low"] < 13 / 24 < top["below_random_high"] < 1
    assert top["p_value"] < 1e-4
    assert top["p_adjusted"] == pytest.approx(2 * top["p_value"])  # Holm, of two tasks
    assert first.filter(pl.col("selection") != "top")["below_random"].null_count() == 3


def test_no_difference_is_none_and_few_questions_are_not_tested():
    same = generated_accuracy({("ablation", "b"): judged([24, 24, 24, 24])}, 0.95).row(1, named=True)
    assert (same["below_random"], same["below_random_low"], same["below_random_high"]) == (0, 0, 0)
    assert not same["p_value"] < 1
    few = generated_accuracy({("ablation", "b"): judged([10, 0, 10, 10], questions=5)}, 0.95)
    top = few.row(1, named=True)
    assert top["below_random"] == 1
    assert all(math.isnan(top[key]) for key in ("below_random_low", "below_random_high", "p_value", "p_adjusted"))
    assert generated(few)["untested"] == ["b"]


def test_claims_name_the_tasks_that_differ():
    found = {"more": judged([48, 12, 40, 36]), "less": judged([48, 44, 20, 20]), "alike": judged([48, 30, 30, 32])}
    said = generated(generated_accuracy({("ablation", task): one for task, one in found.items()}, 0.95))
    assert (said["k"], said["draws"]) == (2, 2)
    assert (said["more"], said["less"], said["untested"]) == (["more"], ["less"], [])
    assert [row["random"] for row in said["tasks"]] == pytest.approx([38 / 48, 20 / 48, 31 / 48])
    assert [row["none"]["accuracy"] for row in said["tasks"]] == [1, 1, 1]
    assert [row["top"]["accuracy"] for row in said["tasks"]] == [0.25, 44 / 48, 30 / 48]
    assert generated(None) is None


def test_script_judges_texts_by_the_check_of_their_task(tmp_path):
    items = [{"id": str(n), "question_id": str(n), "answer": str(n)} for n in range(20)]
    texts = [[f" {n}.0" for n in range(20)], [""] * 20, ["7"] * 20, [f"{n}" for n in range(20)]]
    sets = [one | {"texts": written} for one, written in zip(SETS, texts, strict=True)]
    path = tmp_path / "ablation.json"
    path.write_text(json.dumps({"method": "ablation", "tasks": {"sums": {"items": items, "sets": sets}}}))
    settings = {"methods": ["ablation"], "tasks": ["sums"], "confidence": 0.95}
    for check, accuracy in (("number", [1, 0, 0.05, 1]), ("exact", [0, 0, 0.05, 1])):
        done = run_script(
            "generated_accuracy", settings | {"checks": {"sums": check}}, answers=path, table=tmp_path / "t.parquet"
        )
        assert done.returncode == 0, done.stderr
        assert pl.read_parquet(tmp_path / "t.parquet")["accuracy"].to_list() == accuracy
    items[3]["answer"] = "three"
    path.write_text(json.dumps({"method": "ablation", "tasks": {"sums": {"items": items, "sets": sets}}}))
    done = run_script(
        "generated_accuracy", settings | {"checks": {"sums": "number"}}, answers=path, table=tmp_path / "t.parquet"
    )
    assert "error: task sums, item 3: the answer 'three' holds no number in digits" in done.stderr
