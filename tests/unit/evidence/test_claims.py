"""Claims: counts and choices, by hand, from tables small enough to read."""

import polars as pl
import pytest
from headatlas.evidence import claims

ENDS = {"ci_low": 0.1, "ci_high": 0.9}


def summary(**columns) -> pl.DataFrame:
    """Three tasks of one method."""
    return pl.DataFrame({"task": ["a", "b", "c"]} | columns)


def comparisons(**p_adjusted) -> pl.DataFrame:
    """Tests of pairs of tasks, "ab" for a and b, on depth."""
    rows = [{"figure": "layer_centre", "task_a": a, "task_b": b, "p_adjusted": p} for (a, b), p in p_adjusted.items()]
    return pl.DataFrame(rows)


def test_the_extreme_differs_only_where_the_adjusted_p_value_is_below_the_level():
    centres = {"layer_centre": [1.0, 3.0, 2.0], "layer_centre_low": [0.5, 2.5, 1.5]}
    found = claims.extreme(summary(**centres), comparisons(ab=0.049, ac=0.5, bc=0.05), "layer_centre")
    assert (found["first"]["task"], found["unlike"], found["alike"]) == ("b", ["a"], ["c"])


def test_there_is_no_extreme_of_a_single_task_with_an_interval():
    centres = {"layer_centre": [1.0, 3.0, 2.0], "layer_centre_low": [None, 2.5, None]}
    assert claims.extreme(summary(**centres), comparisons(ab=0.01), "layer_centre") is None


def test_sparsity_names_both_ends_and_the_even_share():
    found = claims.sparsity(summary(top_5_percent=[0.5, 0.2, None], heads=64))
    assert (found["least"]["task"], found["most"]["task"]) == ("b", "a")
    assert (found["top"], found["heads"], found["even"]) == (3, 64, 3 / 64)
    assert claims.sparsity(summary(top_5_percent=[None] * 3, heads=64)) is None


def test_a_cluster_is_the_busiest_layer_if_its_interval_lies_above_an_even_share():
    shares = {"a": [0.6, 0.3, 0.1], "b": [0.2, 0.4, 0.4]}
    lows = {"a": [0.51, 0.1, 0.0], "b": [0.1, 0.33, 0.32]}
    rows = [
        {"task": task, "layer": layer, "share": share, "ci_low": lows[task][layer], "ci_high": 1.0}
        for task, of_layers in shares.items()
        for layer, share in enumerate(of_layers)
    ]
    found = claims.clusters(pl.DataFrame(rows))
    assert found["even"] == pytest.approx(1 / 3)
    assert [(row["task"], row["layer"]) for row in found["tasks"]] == [("a", 0)]  # b's busiest: 0.33 is below 1 / 3
    # A layer without attention has no share: two layers are left to share, evenly 1 / 2.
    without = pl.DataFrame(rows).with_columns(share=pl.when(pl.col("layer") != 2).then("share"))
    found = claims.clusters(without)
    assert found["even"] == 0.5
    assert [row["task"] for row in found["tasks"]] == ["a"]


def test_overlap_counts_pairs_with_a_p_value():
    pairs = pl.DataFrame(
        {"task_a": "a", "task_b": ["b", "c", "d"], "jaccard": [0.2, 0.4, 1.0], "p_adjusted": [0.01, 0.05, None]}
    )
    found = claims.overlap(pairs)
    assert found["mean"] == pytest.approx(0.3)
    assert (found["most"]["task_b"], found["correlated"], found["pairs"]) == ("c", 1, 2)
    assert claims.overlap(None) is None
    assert claims.overlap(pairs.clear()) is None


def reliabilities(**columns) -> pl.DataFrame:
    table = ENDS | {"value_ci_low": 0.2, "value_ci_high": 0.8, "n_questions": 77}
    return pl.DataFrame({"task": ["a", "b", "c"]} | table | columns)


def test_reliability_names_what_is_shaky_and_how_many_questions_it_takes():
    table = reliabilities(
        reliability=[0.95, 0.69, 0.7], value_reliability=[0.9, 0.95, 0.8],
        questions_needed=[30, 1234, 296], value_questions_needed=[77, None, 173],
    )  # fmt: skip
    found = claims.reliability(table)
    assert [found["of_ranking"][end]["task"] for end in ("least", "most")] == ["b", "a"]
    assert [found["of_values"][end]["task"] for end in ("least", "most")] == ["c", "b"]
    assert found["of_values"]["least"]["value_reliability_low"] == 0.2
    assert found["shaky"] == ["b"]
    assert [tuple(row.values()) for row in found["needed"]] == [("b", 1200, None, 77), ("c", 300, 170, 77)]


def test_reliability_of_too_few_questions_is_unknown():
    names = ("reliability", "value_reliability", "questions_needed", "value_questions_needed")
    table = reliabilities(**{name: [None] * 3 for name in names})
    found = claims.reliability(table)
    assert (found["of_ranking"], found["of_values"], found["shaky"], found["needed"]) == (None, None, [], [])


def test_the_overview_has_the_reliability_of_each_task_where_there_is_one():
    table = reliabilities(reliability=[0.5, 0.6, 0.7], value_reliability=0.9).head(2)
    rows = claims.overview(summary(elbow=[1, 2, 3]), table)
    assert [(row["elbow"], row["reliable"] and row["reliable"]["reliability_high"]) for row in rows] == [
        (1, 0.9), (2, 0.9), (3, None),
    ]  # fmt: skip
    assert [row["reliable"] for row in claims.overview(summary(), None)] == [None] * 3


def test_dissociation_counts_cells_whose_interval_lies_above_0():
    rows = [("a", "a", 0.1), ("a", "b", -0.1), ("b", "a", 0.2), ("b", "b", 0.0)]
    cells = pl.DataFrame(
        [{"source_task": a, "target_task": b, "ci_low": low, "effect": 0.5, "k": 4} for a, b, low in rows]
    )
    assert claims.dissociation(cells) == {"k": 4, "own_hurt": 1, "own": 2, "others_hurt": 1, "others": 2}


def test_area_counts_intervals_above_0():
    table = pl.DataFrame({"task": ["a", "b"], "area": [0.5, 0.1], "ci_low": [0.2, -0.1], "ci_high": 0.9})
    assert claims.area(table)["above"] == 1
    assert claims.area(table.clear()) is None


def test_hottest_heads_are_told_from_untested_ones():
    table = pl.DataFrame({"task": ["a", "a", "b", "b"], "head": [0, 1, 2, 3], "q_value": [0.01, 0.05, None, None]})
    a, b = claims.hottest(table)
    assert (a["task"], a["shown"], a["tested"], [row["head"] for row in a["significant"]]) == ("a", 2, True, [0])
    assert (b["tested"], b["significant"]) == (False, [])


def test_agreement_on_the_hottest_heads():
    table = pl.DataFrame(
        {"method_a": "x", "method_b": "y", "task": ["a", "b", "c"], "rank_correlation": [0.2, 0.5, 0.8]}
        | {"p_adjusted": [0.01, 0.05, 0.2], "same_sign": [0.4, 1.0, 0.6], "hottest_rank": [3, 1, 2]}
        | {"hottest_ratio": [-0.2, 0.5, 2.0], "same_unit": True, "k": 5}
    )
    (found,) = claims.agreement(table)
    assert (found["a"], found["b"], found["alike"], found["tasks"]) == ("x", "y", 1, 3)
    assert found["correlation"] == pytest.approx([0.2, 0.8, 0.5])
    assert (found["opposite"], found["ranks"], found["same_sign"], found["sizes"]) == (1, [3, 1, 2], [0.4, 1], [0.2, 2])
    (found,) = claims.agreement(table.with_columns(same_unit=False))
    assert found["sizes"] == []


def test_maps_that_matching_changes_are_counted_once():
    rows = [("a", "b", 0.7, 0.02), ("a", "c", 0.7, 0.02), ("b", "a", 0.6, 0.3), ("c", "a", None, None)]
    table = pl.DataFrame(
        [
            {"method": "x", "task": a, "matched_to": b, "formats": int(a != "c"), "n_items": 9, "expected": 0.9}
            | {"rank_correlation": r, "p_adjusted": p}
            for a, b, r, p in rows
        ]
    )
    found = claims.formats(table)
    (method,) = found["methods"]
    assert (found["apart"], found["pairs"], method["changed"]) == (0, 2, 2)
    assert (method["least"]["task"], method["least"]["matched_to"]) == ("b", ["a"])
    assert [row["matched_to"] for row in method["unlike"]] == [["b", "c"]]


def test_completeness_names_the_maps_that_should_not_be_read():
    errors = summary(completeness_error=[0.25, 0.02, None], readable=[False, True, True])
    found = claims.completeness(errors)
    assert (found["least"]["task"], found["most"]["task"], found["unread"]) == ("b", "a", ["a"])
    assert claims.completeness(errors.tail(1)) is None


def test_what_heads_carry_is_counted_by_task_untested_ones_apart():
    table = pl.DataFrame(
        {"task": ["a", "a", "a", "b"], "head": [5, 3, 4, 6], "p_adjusted": [0.01, 0.2, 0.01, None]}
        | {"carries": ["answer", "question", "answer", None]}
    )
    a, b = claims.answers(table)
    assert (a["task"], a["heads"], a["tested"]) == ("a", 3, True)
    assert ([row["head"] for row in a["answer"]], [row["head"] for row in a["question"]]) == ([5, 4], [3])
    assert (b["heads"], b["tested"], b["answer"], b["question"]) == (1, False, [], [])
    assert claims.answers(None) == []


def test_groups_are_further_from_zero_than_their_sums_or_nearer():
    rows = [("a", 0, 2.0, 1.0, 0.001), ("a", 1, -1.0, -3.0, 0.01), ("a", 2, -3.0, -2.9, 0.2), ("a", 3, 6.0, 3.0, 0.04)]
    rows += [("b", 0, 1.0, 2.0, None)]
    table = pl.DataFrame(rows, schema=["task", "layer", "effect", "sum", "q_value"], orient="row").with_columns(
        difference=pl.col("effect") - pl.col("sum")
    )
    a, b = claims.groups(table)
    assert ([row["layer"] for row in a["more"]], [row["layer"] for row in a["less"]]) == ([3, 0], [1])
    assert (a["count"], a["tested"]) == (4, True)
    assert (b["count"], b["tested"], b["more"], b["less"]) == (1, False, [], [])
    assert claims.groups(None) == []


def test_roles_count_by_method_and_task_without_maps_that_should_not_be_read():
    rows = [("ablation", task, role, 10, 27, p) for task in "ab" for role, p in (("induction", 0.01), ("sink", 0.2))]
    rows += [("ablation", "b", "retrieval_score", 9, 20, 0.001), ("attribution", "a", "induction", 10, 27, 0.001)]
    columns = ["method", "task", "role", "hottest", "strongest", "p_adjusted"]
    table = pl.DataFrame(rows, schema=columns, orient="row").with_columns(heads=270)
    summary = pl.DataFrame({"method": ["ablation", "ablation", "attribution"], "task": ["a", "b", "a"]})
    summary = summary.with_columns(readable=pl.col("method") == "ablation")
    found = claims.roles(table, summary)
    assert {key: found[key] for key in ("names", "heads", "hottest", "strongest")} == {
        "names": ["induction", "sink", "retrieval_score"], "heads": 270, "hottest": 10, "strongest": 27,
    }  # fmt: skip
    (method,) = found["methods"]
    assert method["name"] == "ablation"
    assert [(row["task"], [*row["by"]]) for row in method["rows"]] == [
        ("a", ["induction", "sink"]),
        ("b", ["induction", "sink", "retrieval_score"]),
    ]
    above = [(row["task"], row["role"]) for row in method["above_chance"]]
    assert above == [("b", "retrieval_score"), ("a", "induction"), ("b", "induction")]
    assert claims.roles(None, summary) is None
    assert claims.roles(table.filter(method="attribution"), summary) is None
