"""Heads for other programs: which are listed, in which order; and the files, by their published schema."""

import json

import jsonschema
import numpy as np
import polars as pl
import pytest
from headatlas.evidence.exported_heads import significant_heads, sufficient_heads, top_heads
from headatlas.evidence.importance import COLUMNS
from headatlas.evidence.knock_out_sets import keep_top
from headatlas.files.head_list import read_head_list, read_vectors
from safetensors.numpy import load_file, save_file
from script_runs import run_script
from workflow_runs import ROOT

SCHEMA = json.loads((ROOT / "workflow/schemas/heads.schema.json").read_text(encoding="utf-8"))
EFFECT = np.array([[0.1, -0.5], [np.nan, np.nan], [0.3, 0.02]])  # layer 1 has no attention
RANK = [3, 1, None, None, 2, 4]
Q = [0.04, 0.01, None, None, 0.2, None]
ORIGIN = {
    "model": {"name": "m", "path": "model", "revision": None, "dtype": "float32", "chat_template": False},
    "metric": "log_prob",
    "method": "ablation",
    "baseline": {"kind": "mean", "positions": "answer"},
    "config": "0" * 64,
}


def rows(**columns) -> pl.DataFrame:
    """The rows of one method and task."""
    pairs = [(layer, head) for layer in range(3) for head in range(2)]
    table = pl.DataFrame(pairs, schema={"layer": pl.Int32, "head": pl.Int32}, orient="row")
    given = {"effect": EFFECT.ravel(), "rank": RANK, "q_value": Q}
    given |= {"ci_low": EFFECT.ravel() - 0.1, "ci_high": [*EFFECT.ravel()[:5] + 0.1, None]} | columns
    return table.with_columns(**{name: pl.Series(values).fill_nan(None) for name, values in given.items()})


def curve(*faithfulness) -> pl.DataFrame:
    """With 0, 1, 2 and 4 heads kept; the absolute ranking always suffices."""
    parts = [("signed", faithfulness), ("absolute", (0.0, 1.0, 1.0, 1.0))]
    return pl.concat(
        pl.DataFrame({"ranking": name, "k": [0, 1, 2, 4], "faithfulness": pl.Series(values, dtype=pl.Float64)})
        for name, values in parts
    )


def sets() -> list[dict]:
    kept = keep_top(EFFECT)
    for selection in ("signed", "absolute"):  # sizes of four heads; the grid of `kept_sizes` has only shares
        ranking = next(one["heads"] for one in kept if (one["selection"], one["k"]) == (selection, 4))
        kept = [one for one in kept if one["selection"] != selection]
        kept += [{"kind": "keep", "selection": selection, "k": k, "heads": ranking[:k]} for k in (0, 1, 2, 4)]
    return [{"kind": "out", "selection": "top", "k": 1, "heads": [[0, 0]]}, *kept]


def pairs(heads: list[dict]) -> list[tuple[int, int]]:
    return [(head["layer"], head["head"]) for head in heads]


def test_top_heads_come_by_absolute_effect_and_layers_without_attention_never():
    heads, chosen = top_heads(rows(), 3)
    assert pairs(heads) == [(0, 1), (2, 0), (0, 0)]
    assert chosen == {"by": "top", "top": 3}
    first = {"layer": 0, "head": 1, "effect": -0.5, "ci_low": -0.6, "ci_high": -0.4, "q_value": 0.01, "rank": 1}
    assert heads[0] == pytest.approx(first)
    assert pairs(top_heads(rows(), 99)[0]) == [(0, 1), (2, 0), (0, 0), (2, 1)]


def test_significant_heads_have_a_q_value_below_the_level():
    heads, chosen = significant_heads(rows())
    assert (pairs(heads), chosen) == ([(0, 1), (0, 0)], {"by": "significant", "q_below": 0.05})
    assert significant_heads(rows(q_value=[None] * 6))[0] == []
    assert pairs(significant_heads(rows(q_value=[0.05, 0.049, None, None, 1.0, 1.0]))[0]) == [(0, 1)]


@pytest.mark.parametrize(
    ("wanted", "faithfulness", "expected", "reached"),
    [
        (0.5, (0.0, 0.4, 0.7, 1.0), [(2, 0), (0, 0)], 0.7),
        (0.4, (0.0, 0.4, 0.7, 1.0), [(2, 0)], 0.4),
        (0.9, (0.0, 1.2, 0.5, 1.0), [(2, 0)], 1.2),
        (0.9, (0.0, 0.1, 0.5, 1.0), [(2, 0), (0, 0), (2, 1), (0, 1)], 1.0),
        (0.5, (None,) * 4, [], None),
    ],
)
def test_the_smallest_sufficient_set_of_the_signed_ranking(wanted, faithfulness, expected, reached):
    heads, chosen = sufficient_heads(rows(), curve(*faithfulness), sets(), wanted)
    assert (pairs(heads), chosen["reached"]) == (expected, reached)
    assert [head["rank"] for head in heads] == [RANK[2 * layer + head] for layer, head in expected]


@pytest.fixture
def files(tmp_path):
    """An importance table of two tasks, the second with other ranks, means, and what `keep` reads."""
    parts = [rows().with_columns(task=pl.lit("a")), rows(rank=[2, 4, None, None, 3, 1]).with_columns(task=pl.lit("b"))]
    table = pl.concat(parts).with_columns(model=pl.lit("m"), method=pl.lit("ablation"))
    missing = [pl.lit(None).alias(name) for name in COLUMNS if name not in table.columns]
    table.with_columns(missing).write_parquet(tmp_path / "importance.parquet")
    means = {name: np.random.default_rng(0).normal(size=(3, 2, 5)).astype(np.float32) for name in ("all", "answer")}
    save_file({f"mean_{name}": values for name, values in means.items()}, tmp_path / "baseline.safetensors")
    curves = [curve(0, 0.2, 0.95, 1).with_columns(task=pl.lit("a")), curve(*[None] * 4).with_columns(task=pl.lit("b"))]
    pl.concat(curves).with_columns(method=pl.lit("ablation")).write_parquet(tmp_path / "curve.parquet")
    (tmp_path / "sets.json").write_text(json.dumps({"sets": {"a": sets(), "b": sets()}}))
    return tmp_path, means


@pytest.mark.parametrize("how", ["top", "significant", "keep"])
def test_the_files_follow_the_schema_and_hold_the_means_of_their_heads(how, files):
    folder, means = files
    settings = {
        "tasks": ["a", "b"],
        "heads": how,
        "method": "ablation",
        "top": 2,
        "faithfulness": 0.9,
        "origin": ORIGIN,
    }
    lists = [folder / f"{task}.json" for task in "ab"]
    options = {"lists": lists, "vectors": [path.with_suffix(".safetensors") for path in lists]}
    options |= {"sets": folder / "sets.json", "curve": folder / "curve.parquet"} if how == "keep" else {}
    done = run_script(
        "export_heads", settings, importance=folder / "importance.parquet",
        baseline=folder / "baseline.safetensors", **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {"top": [[(0, 1), (2, 0)], [(2, 1), (0, 0)]], "keep": [[(2, 0), (0, 0)], []]}
    expected["significant"] = [[(0, 1), (0, 0)], [(0, 0), (0, 1)]]
    for path, task, wanted in zip(lists, "ab", expected[how], strict=True):
        content = json.loads(path.read_text())
        jsonschema.validate(content, SCHEMA)
        assert (content["task"], content["unit"]) == (task, "nats per answer token")
        listed = read_head_list(path)
        assert listed.heads == wanted
        vectors = load_file(listed.vectors)
        for name, values in means.items():
            assert np.array_equal(vectors[f"mean_{name}"], [values[pair] for pair in wanted] or np.zeros((0, 5)))
        assert np.array_equal(read_vectors(listed, path), vectors["mean_all"])


def test_the_schema_is_sound_and_closed():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="more"):
        jsonschema.validate({"more": 1}, SCHEMA)
