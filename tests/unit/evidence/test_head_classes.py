"""Classes of heads by gates that were pushed: by hand, through files, and as a sentence of the findings."""

import numpy as np
import polars as pl
import pytest
from headatlas.errors import HeadAtlasError
from headatlas.evidence.claims import classes
from headatlas.evidence.head_classes import classes_of, head_classes
from headatlas.files.effects import write_learned
from headatlas.files.scores import read_effects, read_pushed
from script_runs import run_script

# One layer without attention, one of four heads; two seeds.
OPEN = np.array([[[np.nan] * 4, [0.9, 0.2, 0.9, 0.9]], [[np.nan] * 4, [0.9, 0.4, 0.9, 0.1]]], np.float32)
SHUT = np.array([[[np.nan] * 4, [0.8, 0.1, 0.1, 0.6]], [[np.nan] * 4, [0.6, 0.3, 0.6, 0.1]]], np.float32)


def test_classes_by_hand():
    assert classes_of(np.array([1, 0.9, 0.2, 0.4]), np.array([0.7, 0.1, 0.1, 0.9])).tolist() == [0, 2, 1, 0]


def test_the_class_of_most_seeds_and_how_many_agree():
    table = head_classes({"a": {"open": OPEN, "shut": SHUT}})
    assert table.select("task", "layer", "head", "class", "stability", "seeds").rows() == [
        ("a", 1, 0, "facilitating", 1.0, 2),
        ("a", 1, 1, "interfering", 1.0, 2),
        ("a", 1, 2, "facilitating", 0.5, 2),
        ("a", 1, 3, "facilitating", 0.5, 2),
    ]
    assert table["open"].to_list() == pytest.approx([0.9, 0.3, 0.9, 0.5])
    assert table["shut"].to_list() == pytest.approx([0.7, 0.2, 0.35, 0.35])


def test_the_script_reads_what_gates_wrote(tmp_path):
    score = np.zeros((2, 2, 4), np.float32)
    score[:, 0] = np.nan
    for task in ("a", "b"):
        pushed = {"open": OPEN, "shut": SHUT if task == "a" else OPEN - 0.9}
        write_learned(tmp_path / f"{task}.safetensors", score, 5, 5, [0], pushed=pushed)
    assert read_effects(tmp_path / "a.safetensors").seeds == {"n_items": 5, "n_questions": 5}
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    run_script("classify_heads", {"tasks": ["a", "b"]}, effects=paths, table=tmp_path / "table.parquet")
    table = pl.read_parquet(tmp_path / "table.parquet")
    assert table.filter(task="a").equals(head_classes({"a": {"open": OPEN, "shut": SHUT}}))
    assert table.filter(task="b")["class"].to_list() == ["irrelevant", "interfering", "irrelevant", "interfering"]


def test_gates_that_were_not_pushed_are_refused(tmp_path):
    write_learned(tmp_path / "a.safetensors", np.zeros((2, 2, 4), np.float32), 5, 5)
    with pytest.raises(HeadAtlasError, match="holds no gates that were pushed"):
        read_pushed(tmp_path / "a.safetensors")


def test_what_the_findings_say():
    (found,) = classes(head_classes({"a": {"open": OPEN, "shut": SHUT}}))
    assert (found["task"], found["heads"], found["irrelevant"], found["stability"]) == ("a", 4, 0, 0.75)
    assert [(row["layer"], row["head"]) for row in found["facilitating"]] == [(1, 0), (1, 2), (1, 3)]
    assert [(row["layer"], row["head"]) for row in found["interfering"]] == [(1, 1)]
    assert classes(None) == []
