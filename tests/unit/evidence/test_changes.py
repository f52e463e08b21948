"""Two runs of one model: which heads came, went, grew, shrank and turned, planted; tables and script."""

import json

import numpy as np
import polars as pl
import pytest
from headatlas.evidence.changes import Pair, change_of, changes
from headatlas.files.effects import write_effects
from headatlas.stats.difference import Sample
from script_runs import run_script

N = 24
NOISE = np.where(np.arange(N) % 2, 0.1, -0.1)[:, None]
HERE, THERE = [2.0, 0.5, -1.0, 1.0, 0.0, 0.3], [1.0, 1.0, 1.0, 0.0, 1.0, 0.3]


def effects(means: list[float], shift: int) -> np.ndarray:
    """[item, layer, head]: two layers of three heads with some noise, under a layer without attention."""
    flat = np.array(means) + np.roll(NOISE, shift, axis=0) * [1, 1, 1, 1, 1, 0.5]
    return np.concatenate([np.full((N, 1, 3), np.nan), flat.reshape(N, 2, 3)], axis=1)


def pair() -> Pair:
    names = [f"q{row}" for row in range(N)]
    return Pair(*(Sample(effects(*each), names, names) for each in ((HERE, 0), (THERE, 1))))


def test_planted_changes():
    heads, maps = changes({("ablation", "a"): pair()}, "base", 0.95, 0.34)
    assert heads["layer"].to_list() == [0] * 3 + [1] * 3 + [2] * 3
    assert heads["difference"].null_count() == heads["change"].null_count() - 1 == 3
    known = heads.drop_nulls("difference")
    assert known["change"].to_list() == ["stronger", "weaker", "turned", "came", "went", None]
    assert known["effect"].to_list() == pytest.approx(HERE)
    assert known["difference"].to_list() == pytest.approx(np.subtract(HERE, THERE).tolist(), abs=1e-12)
    row = maps.to_dicts()[0]
    assert [row[kind] for kind in ("stronger", "weaker", "turned", "came", "went")] == [1, 1, 1, 1, 1]
    assert (row["k"], row["heads"], row["tested"], row["paired"], row["n_questions"]) == (2, 6, 6, True, N)
    assert row["correlation"] == pytest.approx(np.corrcoef(HERE, THERE)[0, 1])
    # Of the sizes 2, .5, 1, 1, 0, .3 and 1, 1, 1, 0, 1, .3 the top two are heads {0, 2} and {0, 1}.
    assert row["overlap"] == 0.5


def test_a_head_significant_in_one_run_only_has_not_come_if_the_runs_do_not_differ():
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 1, (N, 1, 1))
    first = 0.8 + shared + rng.normal(0, 0.05, (N, 1, 1))
    names = [f"q{row}" for row in range(N)]
    second = first - 0.15 + rng.normal(0, 2, (N, 1, 1))
    runs = Pair(*(Sample(effects, names, names) for effects in (first, second)))
    heads, _ = changes({("ablation", "a"): runs}, "b", 0.95, 0.1)
    row = heads.to_dicts()[0]
    assert row["q_effect"] < 0.05 < row["q_other"]
    assert row["q_value"] > 0.05
    assert row["change"] is None


@pytest.mark.parametrize(
    ("effect", "other", "here", "there", "kind"),
    [(1, 2, True, True, "weaker"), (-2, -1, True, True, "stronger"), (1, -1, True, True, "turned"),
     (1, -1, True, False, "came"), (0, 1, False, True, "went"), (1, -2, False, False, "turned")],
)  # fmt: skip
def test_change_of(effect, other, here, there, kind):
    assert change_of(effect, other, here, there) == kind


def _write(folder, values, order, answer="x"):
    (folder / "ablation").mkdir(parents=True)
    for layer in range(3):
        file = folder / f"ablation/a.layers-{layer}-{layer}.safetensors"
        write_effects(file, values[order][:, layer : layer + 1], np.arange(N), np.ones(N), [0], layer)
    items = [{"id": f"q{row}", "question_id": f"q{row}", "answer": answer, "split": "score"} for row in order]
    (folder / "a.json").write_text(json.dumps({"task": "a", "counts": {}, "items": items}))


def _run(tmp_path):
    names = {"ablation": [f"{{task}}.layers-{layer}-{layer}.safetensors" for layer in range(3)]}
    settings = {"tasks": ["a"], "effects": names, "other_effects": names, "compared_to": "base"}
    settings |= {"items": "all", "confidence": 0.95, "top": 0.34}
    files = {"items": tmp_path / "here/a.json", "effects": tmp_path / "here"}
    files |= {"other-items": tmp_path / "there/a.json", "other-effects": tmp_path / "there"}
    run_script("compare_heads", settings, **files, heads=tmp_path / "heads.parquet", maps=tmp_path / "maps.parquet")
    return pl.read_parquet(tmp_path / "heads.parquet"), pl.read_parquet(tmp_path / "maps.parquet")


def test_the_script_pairs_items_by_id_and_answer(tmp_path):
    first, second = pair()
    _write(tmp_path / "here", first.effects, np.arange(N))
    _write(tmp_path / "there", second.effects, np.arange(N)[::-1])
    heads, maps = _run(tmp_path)
    expected, _ = changes({("ablation", "a"): pair()}, "base", 0.95, 0.34)
    found, wanted = (table["p_value"].drop_nulls().to_list() for table in (heads, expected))
    assert found == pytest.approx(wanted, rel=1e-3)
    assert maps["paired"].item()


def test_items_with_another_answer_are_not_the_same(tmp_path):
    first, second = pair()
    _write(tmp_path / "here", first.effects, np.arange(N))
    _write(tmp_path / "there", second.effects, np.arange(N), answer="y")
    assert not _run(tmp_path)[1]["paired"].item()
