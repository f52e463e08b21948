"""Names of tasks: which columns hold them, whose rows are kept, and in which order."""

import polars as pl
from headatlas.evidence.task_names import named, of_tasks, task_columns, without_tasks

PAIRS = pl.DataFrame({"task_a": ["x", "x", "y"], "task_b": ["y", "z", "z"], "p": [1, 2, 3]})


def test_the_columns_that_hold_tasks():
    assert task_columns(PAIRS) == ("task_a", "task_b")
    assert task_columns(pl.DataFrame({"task": [], "matched_to": [], "r": []})) == ("task", "matched_to")
    assert task_columns(pl.DataFrame({"task": [], "r": []})) == ("task",)
    assert task_columns(pl.DataFrame({"dominance": []})) == ()


def test_rows_of_some_tasks_and_without_some():
    assert of_tasks(PAIRS, ["x", "y"])["p"].to_list() == [1]
    assert without_tasks(PAIRS, ["x"])["p"].to_list() == [3]
    merit = pl.DataFrame({"dominance": [0.5]})
    assert of_tasks(merit, []).equals(merit)
    assert without_tasks(merit, ["x"]).equals(merit)


def test_names_replace_keys_in_their_order():
    found = named(PAIRS, {"z": "Last", "y": "A\n name", "x": "Last"})
    assert found.rows() == [("A name", "Last (z)", 3), ("Last (x)", "Last (z)", 2), ("Last (x)", "A name", 1)]
