"""Findings: claims are those that the tests allow, with numbers from the tables."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from figure_samples import capability
from headatlas.charts.labels import task_label
from headatlas.errors import HeadAtlasError
from headatlas.evidence.findings import Tables, bullet, fill, interval, listed, p_value, two_digits, write_findings
from headatlas.evidence.html import page
from headatlas.evidence.summary import FIGURES
from importance_samples import importance, planted
from script_runs import run_script, write_effects

TEMPLATE = Path(__file__).parents[3] / "workflow/report/findings.md.j2"
FIGURE_COLUMNS = {"significant": 9, "heads": 64, "helping": 6, "hurting": 3, "elbow": 4, "exclusive": 2}
FIGURE_COLUMNS |= {"completeness_error": None, "readable": True, "tested": 64, "stopped": 0}


def tables(centres: dict[str, float], p_adjusted: dict[tuple[str, str], float], **more) -> Tables:
    """Tables of one method whose tasks differ in depth only."""
    rows = []
    for task, centre in centres.items():
        row = {"model": "m", "method": "ablation", "task": task} | FIGURE_COLUMNS
        for figure in FIGURES:
            value = centre if figure == "layer_centre" else 0.3
            row |= {figure: value, f"{figure}_low": value - 0.1, f"{figure}_high": value + 0.1}
        rows.append(row)
    pairs = [
        {"method": "ablation", "figure": figure, "task_a": a, "task_b": b, "p_adjusted": p}
        for figure in FIGURES
        for (a, b), p in (p_adjusted if figure == "layer_centre" else dict.fromkeys(p_adjusted, 1.0)).items()
    ]
    profile = {
        "method": "ablation",
        "layer": 3,
        "share": 0.6,
        "ci_low": 0.5,
        "ci_high": 0.7,
        "significant": 9,
    }
    hot = {
        "method": "ablation",
        "rank": 1,
        "layer": 2,
        "head": 5,
        "effect": 0.1234,
        "ci_low": 0.1,
        "ci_high": 0.15,
    }
    hot |= {"q_value": 0.01, "importance": 0.2}
    first = next(iter(centres))
    return Tables(
        capability([*centres, "a", "b", "b_c", "d", "z"]),
        pl.DataFrame(rows),
        pl.DataFrame(pairs),
        pl.DataFrame([hot | {"task": first}, hot | {"task": first, "rank": 2, "layer": 7, "q_value": 0.2}]),
        pl.DataFrame([profile | {"task": task} for task in centres]),
        **more,
    )


def written(found: Tables, order: list[str] | None = None, **labels: str) -> str:
    """The findings, with tasks in this order and by these names."""
    tasks = order or found.capability["task"].to_list()
    return write_findings(found, 0.95, {task: task_label(task, labels) for task in tasks}, TEMPLATE)


THREE = {"math_calculation": 2.5, "retrieval": 1.5, "inference": 1.0}
PAIRS = [("math_calculation", "retrieval"), ("math_calculation", "inference"), ("retrieval", "inference")]


def test_only_significant_differences_are_claimed():
    text = written(tables(THREE, dict(zip(PAIRS, (0.3, 0.01, 0.01), strict=True))))
    assert (
        "- The deepest map is **Math Calculation**, with its centre at layer 2.50 [2.40, 2.60] (layers 0 to 3). "
        "It differs significantly from Inference, but not from Retrieval.\n" in text
    )
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))
    assert "No other task differs from it significantly, so this is not a ranking.\n" in text
    assert "It differs significantly" not in text


def test_numbers_of_the_overview_and_of_heads():
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))
    assert "| Math Calculation | 9 of 64 (6, 3) | 4 | 0.3 [0.2, 0.4] | 30% [20%, 40%] | 2.50 [2.40, 2.60] | 2 |" in text
    assert "- Math Calculation: 2.5 +0.123 [+0.100, +0.150]\n" in text  # the head with q = 0.2 is not among them
    assert (
        "even share (25%): Math Calculation in layer 3 (60% [50%, 70%]); Retrieval in layer 3 (60% [50%, 70%]);" in text
    )
    assert "- The map spread over the most heads is **Math Calculation**: 0.3 [0.2, 0.4] effective heads. No" in text
    assert (
        "- Sparsity: the top 5% of heads (3 of 64) hold between 30% [20%, 40%] (Math Calculation) and "
        "30% [20%, 40%] (Inference) of the importance; an even spread would give them 5%.\n" in text
    )
    assert "- Heads significant for one task only: Math Calculation 2, Retrieval 2, Inference 2.\n" in text


def test_what_could_not_be_tested_is_not_called_insignificant():
    found = tables(THREE, dict.fromkeys(PAIRS, 0.05))
    summary = found.summary.with_columns(tested=0)
    hottest = found.hottest.with_columns(q_value=pl.lit(None, pl.Float64))
    text = written(found._replace(summary=summary, hottest=hottest))
    assert "| Math Calculation | not tested | 4 |" in text
    assert "- Math Calculation: not tested with fewer than 20 questions\n" in text
    for limit in ("lower bounds", "self-repair", "this checkpoint"):
        assert limit in text


def test_reliability_controls_and_knock_outs():
    method = {"method": "ablation"}
    ends = {"ci_low": 0.1, "ci_high": 0.9}
    scores = dict(zip(THREE, (0.95, 0.4, 0.8), strict=True))
    more = {
        "reliability": pl.DataFrame(
            [
                method | ends | {"task": t, "reliability": r, "value_reliability": 0.5 + r / 2, "n_questions": 70}
                | {"value_ci_low": 0.9, "value_ci_high": 1.0, "questions_needed": n, "value_questions_needed": 7}
                for (t, r), n in zip(scores.items(), (34, 943, None), strict=True)
            ]
        ),
        "agreement": pl.DataFrame(
            {
                "task": ["a", "b"], "method_a": "ablation", "method_b": "probe",
                "rank_correlation": [0.2, 0.6], "p_adjusted": [0.04, 0.002],
                "same_sign": [0.4, 1.0], "hottest_rank": [3, 34], "hottest_ratio": [-0.2, 0.0001], "k": 5,
                "same_unit": [True, True],
            }
        ),
        "overlap": pl.DataFrame(
            [method | {"task_a": "a", "task_b": "b_c", "jaccard": 0.5, "k": 6, "p_value": 0.2, "p_adjusted": 0.2}]
        ),
        "surface": pl.DataFrame(
            [
                {"task": "(all)", "input": name, "accuracy": 0.5, "majority": 0.125} | ends
                for name in ("prompt", "answer", "both")
            ]
        ),
        "formats": pl.DataFrame(
            [
                method | ends | {"task": a, "matched_to": b, "formats": int(b != "z"), "n_items": 9, "k": 4}
                | {"rank_correlation": r, "expected": 0.9, "p_adjusted": p, "top_kept": 0.5, "top_expected": 0.75}
                for a, b, r, p in (
                    ("a", "b_c", 0.7, 0.02), ("a", "d", 0.7, 0.02), ("b_c", "d", 0.6, 0.03), ("d", "a", None, None),
                    ("a", "z", None, None), ("z", "a", None, None),
                )
            ]
        ).with_columns(formats=pl.when(task="z").then(0).otherwise("formats")),
        "area": pl.DataFrame([method | {"task": "a", "area": 0.5} | ends]),
        "dissociation": pl.DataFrame(
            [
                method | {"source_task": a, "target_task": b, "k": 4, "effect": 0.5, "ci_low": low, "ci_high": 1.0}
                for a, b, low in (("a", "a", 0.1), ("a", "b", -0.1), ("b", "a", 0.2), ("b", "b", -0.2))
            ]
        ),
        "dominance": pl.DataFrame([method | {"dominance": 0.3, "p_value": 0.2} | ends]),
    }  # fmt: skip
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), **more))
    assert (
        "- Split-half reliability of the ranking of heads runs from 0.40 [0.10, 0.90] (Retrieval) to "
        "0.95 [0.10, 0.90] (Math Calculation). Do not read the ranking of heads for Retrieval.\n" in text
    )
    assert "runs from 0.70 [0.90, 1.00] (Retrieval) to 0.97 [0.90, 1.00] (Math Calculation).\n" in text
    assert "for this many questions: Retrieval 940 (7), now 70; Inference no number (7), now 70. The formula" in text
    assert "| 2 | 0.95 [0.10, 0.90] | 0.97 [0.90, 1.00] |" in text
    assert "for 2 of 2 tasks (rank correlation 0.20 to 0.60, mean 0.40; permutation" in text
    assert (
        "a task's hottest head by `ablation` the opposite sign for 1 of 2 tasks, and ranks these heads 3, 34; 40%"
        in text
    )
    assert "`probe` puts the effects of the hottest heads at 0.01% to 20% of their size by `ablation`.\n" in text
    assert "0.50 on average, highest between A and B C (0.50). Pairs of maps that correlate beyond sharing" in text
    assert "beyond sharing layers: 0 of 1 (permutation within layers, Holm-adjusted).\n" in text
    assert "50% [10%, 90%] from the prompt, 50% [10%, 90%] from the answer and 50% [10%, 90%] from both" in text
    assert "(largest task: 12%). What a probe reaches" in text
    assert "for 1 of 1 tasks (interval above 0). Area between the two curves" in text
    assert "in nats per answer token: A 0.50 [0.10, 0.90].\n" in text
    assert "1 of 3 pairs of tasks share none, so" in text
    assert "changes 2 maps by `ablation`. The one least like its map on all items is B C matched to D: " in text
    assert "0.60 [0.10, 0.90] (0.90 expected of as many items of any format), and 50% of the top 4 heads stay" in text
    assert "heads stay (75% expected)." in text
    # Two maps, the first equally matched to two tasks: adjusted p-values 0.02 and 0.03.
    assert "Holm-adjusted): A matched to B C and D; B C matched to D.\n" in text
    assert "the top 4 heads together, on held-out" in text
    assert (
        "more than matched random heads do for 1 of 2 tasks; they also cost another task more in 1 of 2 pairs" in text
    )
    assert "stands out by 0.30 [0.10, 0.90] nats per answer token; tasks are not significantly separate" in text
    assert "(permutation p = 0.200).\n" in text


def test_which_ranking_predicts_best():
    ends = {f"{name}_{end}": value for name in ("cpr", "cmd") for end, value in (("low", 0.1), ("high", 0.9))}
    cpr = pl.DataFrame(
        [
            {"method": method, "task": task, "baseline": "zero", "rankings": 30 if method == "random" else 1} | ends
            | {"cpr": None if task == "d" else value, "cmd": None if task == "d" else 1 - value}
            for method, value in (("ablation", 0.85), ("probe", 0.6), ("random", 0.4)) for task in ("b", "a", "d")
        ]
    )  # fmt: skip
    area = pl.DataFrame([{"method": "ablation", "task": "a", "area": 0.5, "ci_low": 0.4, "ci_high": 0.6}])
    tests = pl.DataFrame(
        [
            {"figure": figure, "task": task, "method_a": "ablation", "method_b": "probe"}
            | {"difference": difference, "p_adjusted": p}
            for figure, task, difference, p in (
                ("area", "a", 0.2, 0.2), ("cpr", "a", 0.3, 0.01), ("cpr", "b", -0.3, 0.04), ("cpr", "d", 0.3, None),
                ("cmd", "a", -0.3, 0.01), ("cmd", "b", -0.2, 0.02),
            )
        ]
    )  # fmt: skip
    more = {"area": area, "cpr": cpr, "tests": tests}
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), **more), order=["a", "b", "d", "b_c", "z", *THREE])
    assert (
        "| A | `ablation` | 0.50 [0.40, 0.60] | 0.85 [0.10, 0.90] | 0.15 [0.10, 0.90] |\n"
        "| A | `probe` |  | 0.60 [0.10, 0.90] | 0.40 [0.10, 0.90] |\n"
        "| A | `random` |  | 0.40 [0.10, 0.90] | 0.60 [0.10, 0.90] |\n"
        "| B | `ablation` |  | 0.85 [0.10, 0.90] |"
    ) in text
    assert "| D | `probe` |  | unknown | unknown |\n" in text
    assert "- Knock-out area: `ablation` is better than `probe` for 0 of 1 tasks and worse for 0.\n" in text
    assert "- Head-CPR: `ablation` is better than `probe` for 1 of 2 tasks and worse for 1.\n" in text
    assert "- Head-CMD: `ablation` is better than `probe` for 2 of 2 tasks and worse for 0.\n" in text  # less is better
    assert "output the baseline (zero)." in text
    assert "`random` is the mean of 30 random rankings.\n" in text
    assert "- Head-CPR and head-CMD are not defined for D: the score with all heads is not clearly above" in text
    assert "Which ranking" not in written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))


def test_unknown_is_said_not_printed_as_null():
    found = tables(THREE, dict.fromkeys(PAIRS, 0.05))
    empty = {name: None for figure in FIGURES for name in (figure, f"{figure}_low", f"{figure}_high")}
    summary = found.summary.with_columns(**{name: pl.lit(None, pl.Float64) for name in empty})
    profiles = found.profiles.with_columns(share=pl.lit(None, pl.Float64), ci_low=pl.lit(None, pl.Float64))
    none = {"comparisons": found.comparisons.clear(), "hottest": found.hottest.with_columns(q_value=1.0)}
    text = written(found._replace(summary=summary, profiles=profiles, **none))
    assert "None" not in text
    assert "nan" not in text.lower()
    assert "- No head has any effect on any task.\n" in text
    assert "- No task's busiest layer clearly holds more than an even share (25%).\n" in text
    assert "hottest has q < 0.05" in text


def test_integrated_gradients_that_do_not_add_up_are_not_read():
    found = tables(THREE, dict.fromkeys(PAIRS, 0.01))
    errors = {"math_calculation": 0.25, "retrieval": 0.02, "inference": 0.04}
    error = pl.col("task").replace_strict(errors, return_dtype=pl.Float64)
    summary = found.summary.with_columns(completeness_error=error, readable=error <= 0.1)
    text = written(found._replace(summary=summary))
    assert "They miss that difference by 2.0% (Retrieval) to 25.0% (Math Calculation). A map" in text
    assert "by more than 10% should not be read, so Math Calculation is left out below; take more `steps`" in text
    assert "The deepest map is **Retrieval**" in text  # the deepest of those that are read
    assert "- Math Calculation: 2.5" not in text
    text = written(found._replace(summary=summary.with_columns(readable=False)))
    assert "The deepest" not in text
    assert "so Retrieval, Inference and Math Calculation are left out below; take more" in text
    text = written(found._replace(summary=summary.with_columns(readable=True)))
    assert "None misses it by more than 10%, so all maps can be read.\n" in text


def test_nothing_is_said_of_the_map_of_a_task_that_the_model_does_not_do():
    known = tables(THREE, dict.fromkeys(PAIRS, 0.01))
    ends = {"ci_low": 0.5, "ci_high": 0.7}
    merit = pl.DataFrame({"method": "ablation", "dominance": [0.5], "p_value": [0.001]} | ends)
    cells = pl.DataFrame(
        [
            {"method": "ablation", "source_task": a, "target_task": b, "k": 4, "effect": 0.6} | ends
            for a in THREE for b in THREE
        ]
    )  # fmt: skip
    known = known._replace(dominance=merit, dissociation=cells, capability=capability(THREE, failed=["retrieval"]))
    first, rest = written(known).split("**Not done: Retrieval.**")
    assert "| Retrieval | 40 | 0% [0%, 9%] | 10% | -1.500 [-2.250, -1.000] | **no** |" in first
    assert "Retrieval" not in rest
    assert "for 2 of 2 tasks; they also cost another task more in 2 of 2 pairs." in rest
    assert "stands out" not in rest  # the dominance is one of all tasks
    assert "stands out by 0.50" in written(known._replace(capability=capability(THREE)))


def test_of_a_model_that_does_nothing_nothing_is_said():
    found = tables(THREE, dict.fromkeys(PAIRS, 0.01))
    text = written(found._replace(capability=capability(THREE, failed=THREE)))
    assert "**The model does none of these tasks.**" in text
    assert "## By" not in text
    assert "q < 0.05" not in text


def test_tasks_have_the_names_and_the_order_of_the_figures():
    found = tables(THREE, dict.fromkeys(PAIRS, 0.05))
    found = found._replace(capability=capability(THREE))
    order = ["inference", "math_calculation", "retrieval"]
    text = written(found, order, retrieval="Look it\nup", inference="Math Calculation")
    names = [line.split(" | ")[0] for line in text.splitlines() if " of 64 " in line]
    assert names == ["| Math Calculation (inference)", "| Math Calculation (math_calculation)", "| Look it up"]


def test_an_interval_says_what_is_unknown():
    row = {"a": 0.123, "a_low": 0.1, "a_high": 0.2, "b": -1.0, "ci_low": float("nan"), "ci_high": 2.0, "c": None}
    assert interval(row, "a", ".0%") == "12% [10%, 20%]"
    assert interval(row, "b", "+.1f") == "-1.0 [unknown]"
    assert interval(row, "c", ".2f") == "unknown"


def test_words_and_numbers_of_the_template():
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
    assert [two_digits(share) for share in (0.00011, 0.2, 1.0, 12.34)] == ["0.011%", "20%", "100%", "1200%"]
    assert [p_value(p) for p in (0.04567, 0.001, 0.00021)] == ["0.046", "0.001", "0.0002"]
    assert bullet("\nOne\n  line,\n\nno more.\n") == "- One line, no more.\n"


def test_mistakes_in_the_template_are_named_with_their_line(tmp_path):
    template = tmp_path / "findings.md.j2"
    template.write_text("# {{ model }}\n\n{% if deep %}{{ deep.tusk }}.{% endif %} \n")
    assert fill(template, {"model": "m", "deep": {"tusk": "b"}}) == "# m\n\nb. \n"
    with pytest.raises(HeadAtlasError, match=r"findings\.md\.j2:3: 'deep' is undefined; fix the template"):
        fill(template, {"model": "m"})
    with pytest.raises(HeadAtlasError, match=r"findings\.md\.j2:3: .* has no attribute 'tusk'; fix the template"):
        fill(template, {"model": "m", "deep": {"task": "b"}})
    template.write_text("# {{ model }}\n{% if model %}\n")
    with pytest.raises(HeadAtlasError, match=r"findings\.md\.j2:2: Unexpected end of template.*; fix the template"):
        fill(template, {"model": "m"})


def test_the_page_shows_tables_and_obeys_no_html():
    shown = page("# F\n\n| a | b |\n| --- | --- |\n| <b>x</b> | 1 |\n", "F & G")
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td>" in shown
    assert "<title>F &amp; G</title>" in shown
    assert "http" not in shown


@pytest.mark.parametrize("with_evidence", [True, False])
def test_from_effects_to_findings_by_the_scripts(tmp_path, with_evidence):
    rng = np.random.default_rng(0)
    rows, centres = [], {"low": 1, "twin": 1, "deep": 4}
    for task, centre in centres.items():
        effect = planted(centre, rng)
        write_effects(tmp_path / "ablation" / f"{task}.safetensors", effect)
        mean = effect.mean(axis=0)
        rows += [(task, layer, head, float(mean[layer, head]), 0.01) for layer in range(6) for head in range(8)]
    importance(rows).write_parquet(tmp_path / "i.parquet")
    common = {"confidence": 0.95, "seed": 0, "items": "all"}
    common |= {"tasks": list(centres), "effects": {"ablation": ["{task}.safetensors"]}}
    made = {name: tmp_path / f"{name}.parquet" for name in ("summary", "comparisons", "profiles", "hottest")}
    one = {"importance": tmp_path / "i.parquet"}
    capability(list(centres)).write_parquet(tmp_path / "capability.parquet")
    skills = {"capability": tmp_path / "capability.parquet"}
    runs = [run_script("summarise", common, **one, **skills, effects=tmp_path, **made)]
    if with_evidence:
        more = {name: tmp_path / f"{name}.parquet" for name in ("reliability", "overlap", "agreement")}
        runs.append(run_script("reliability", common | {"halves": 20}, effects=tmp_path, table=more["reliability"]))
        settings = {"top": 0.1, "permutations": 200, "seed": 0}
        maps = {"agreement": more["agreement"], "overlap": more["overlap"]}
        runs.append(run_script("compare_maps", settings, **one, **maps))
        made |= more
    slow = {"rule": "knock_out", "method": "ablation", "task": "logic"}
    slow |= {"engine": "hooked", "reason": "no cache", "work": 9.0, "checked": 6, "noise": 2e-6}
    (tmp_path / "engines.json").write_text(json.dumps([slow]))
    made["engines"] = tmp_path / "engines.json"
    settings = {"confidence": 0.95, "tasks": list(centres), "labels": {}}
    outputs = {"findings": tmp_path / "findings.md", "page": tmp_path / "findings.html"}
    runs.append(run_script("write_findings", settings, template=TEMPLATE, **skills, **made, **outputs))
    assert [run.stderr for run in runs if run.returncode] == []
    text = (tmp_path / "findings.md").read_text()
    assert text.splitlines()[2].startswith("**Slow:** knock_out ran the whole model for every edit, 9 times the work")
    assert "\n- Rounding: 6 of the numbers" in text
    assert "The deepest map is **Deep**" in text
    assert "It differs significantly from" in text
    assert ("Split-half reliability" in text) == with_evidence


def test_groups_that_do_more_or_less_than_their_heads_are_named():
    rows = [("retrieval", layer, 3, 5, 2.0, 1.0, 0.01) for layer in range(7)]
    rows += [("retrieval", 9, 0, 2, 1.0, 2.0, 0.01), ("inference", 1, 0, 2, 1.0, 2.0, None)]
    columns = ["task", "layer", "first_head", "last_head", "effect", "sum", "q_value"]
    groups = pl.DataFrame(rows, schema=columns, orient="row").with_columns(difference=pl.col("effect") - pl.col("sum"))
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), groups=groups))
    for sentence in (
        "Retrieval: of 8 groups 7 are further from zero than the sum (0.3-5, 1.3-5, 2.3-5, 3.3-5, 4.3-5, …), 1 nearer "
        "(9.0-2).",
        "Inference: not tested with fewer than 20 questions.",
    ):
        assert f"- {sentence}\n" in text
    assert "Groups: the query heads" not in written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))


def test_heads_that_carry_the_answer_and_the_question_are_named():
    rows = [("math_calculation", 2, 5, "answer"), ("math_calculation", 0, 1, "answer")]
    rows += [("math_calculation", 1, 3, None), ("inference", 1, 1, None)]
    rows += [("retrieval", 3, 3, "question"), ("retrieval", 3, 4, "answer")]
    answers = pl.DataFrame(rows, schema=["task", "layer", "head", "carries"], orient="row").with_columns(
        p_adjusted=pl.when(pl.col("task") != "inference").then(0.01)
    )
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), answers=answers))
    for sentence in (
        "Math Calculation: of the 3 hottest heads 2 carry the answer (2.5, 0.1), 0 the question; 1 undecided.",
        "Retrieval: of the 2 hottest heads 1 carries the answer (3.4), 1 the question (3.3); 0 undecided.",
        "Inference: not tested with fewer than 20 held-out questions.",
    ):
        assert f"- {sentence}\n" in text
    assert "Answer or question" not in written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))


def test_findings_count_the_heads_that_adaptive_ablation_stopped():
    found = tables(THREE, dict.fromkeys(PAIRS, 1.0))
    stopped = pl.Series("stopped", [40, 51, 45])
    found = found._replace(summary=found.summary.with_columns(stopped))
    text = written(found)
    assert "- Adaptive: 40 (Math Calculation) to 51 (Retrieval) of 64 heads were measured on some of a task's" in text
    assert "Adaptive:" not in written(tables(THREE, dict.fromkeys(PAIRS, 1.0)))


def test_hot_heads_of_a_role_are_counted_against_chance():
    rows = [
        ("retrieval", "induction", 3, 1.0, 0.2, 0.3, None, None),
        ("inference", "induction", 0, 1.0, 1.0, -0.1, -0.2, 0.1),
    ]
    rows += [("retrieval", "retrieval_score", 7, 1.0, 0.0004, 0.5, 0.4, 0.6)]
    columns = ["task", "role", "shared", "expected", "p_adjusted", "rank_correlation", "ci_low", "ci_high"]
    overlap = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        method=pl.lit("ablation"), heads=270, hottest=10, strongest=27
    )
    text = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), roles=overlap))
    for line in (
        "| `ablation` | induction | retrieval score |",
        "| Retrieval | 3 (1.0) | **7** (1.0) |",
        "| Inference | 0 (1.0) |  |",
        "- Of Retrieval's 10 hottest heads by `ablation`, 7 are among the model's 27 strongest retrieval heads (1.0 by "
        "chance, p = 0.0004). Rank correlation of role and importance over all heads: 0.50 [0.40, 0.60].",
    ):
        assert f"{line}\n" in text
    assert "no task's hottest heads" not in text
    none = written(tables(THREE, dict.fromkeys(PAIRS, 0.05), roles=overlap.filter(role="induction")))
    assert "- By `ablation`, no task's hottest heads are those of a role more often than by chance.\n" in none
    assert "What do the hot heads do?" not in written(tables(THREE, dict.fromkeys(PAIRS, 0.05)))
