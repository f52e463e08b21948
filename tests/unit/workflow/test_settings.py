"""The table of settings: each row matches the rule's script, and a job's string holds exactly that row."""

import copy
import importlib
import json
import re
from dataclasses import MISSING, fields

import pytest
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.settings import TABLE, of_every_rule, origin, settings_of
from workflow_runs import REDUCED, ROOT

SCRIPT = {"draw_comparison": "draw_evidence"}  # rules that another rule's script serves
FROM_ELSEWHERE = {"write_provenance": {"files", "stored_as", "code"}, "export_heads": {"origin"}}


@pytest.fixture
def atlas(monkeypatch):
    """A function: the atlas of the reduced demo with some sections changed."""
    monkeypatch.chdir(ROOT)
    return lambda **changes: Atlas(copy.deepcopy(REDUCED) | changes, ROOT)


@pytest.mark.parametrize("rule", TABLE)
def test_a_row_has_what_the_script_takes(rule):
    script = importlib.import_module(SCRIPT.get(rule, rule))
    taken = {field.name: field.default is MISSING for field in fields(script.Settings)}
    named = {*TABLE[rule]} | FROM_ELSEWHERE.get(rule, set())
    assert named <= {*taken}
    assert {name for name, needed in taken.items() if needed} <= named


def test_every_rule_with_settings_has_a_row():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    named = re.findall(r'settings\("(\w+)"\)', text) + re.findall(r'settings_of\(\s*atlas,\s*"(\w+)"', text)
    assert {*named} == {*TABLE}


def test_settings_of_a_task(atlas):
    job = {"model": "demo", "task": "inference"}
    said = settings_of(atlas(seed=3, items={"max_tokens": 5000, "max_items": 20}), "prepare_task", job)
    assert json.loads(said) == {
        "task": "inference",
        "format": "jsonl",
        "join": "auto",
        "max_items": 20,
        "seed": 3,
        "validate_fraction": 0.3,
        "max_tokens": json.loads((ROOT / "workflow/resources/demo-model/config.json").read_text())[
            "max_position_embeddings"
        ],  # as the 5000 asked for would not fit
        "tokenizer": {
            "path": "workflow/resources/demo-model",
            "revision": None,
            "chat_template": False,
            "trust_remote_code": False,
        },
    }
    model = {"demo": REDUCED["models"]["demo"] | {"chat_template": True}}
    assert json.loads(settings_of(atlas(models=model), "prepare_task", job))["join"] is None


def test_wildcards_are_settings_and_numbers_are_numbers(atlas):
    job = {"model": "demo", "method": "probe", "task": "inference", "layer": "4"}
    assert settings_of(atlas(), "score_layer", job) == (
        '{"confidence": 0.95, "items": "all", "layer": 4, "method": "probe", "model": "demo", "null": true, '
        '"task": "inference"}'
    )


def test_adaptive_ablation_has_one_bound_and_a_seed(atlas):
    job = {"model": "demo", "task": "inference", "first": "0", "last": "5"}
    ablations = ({"items": "all"}, {"items": "adaptive"}, {"items": "adaptive", "smallest_effect": 0.1})
    atlases = [atlas(seed=7, methods={"ablation": ablation, "attribution": {}}) for ablation in ablations]
    said = [json.loads(settings_of(one, "ablate_layers", job)).get("adaptive") for one in atlases]
    assert said == [None, {"bound": {"top": 20}, "seed": 7}, {"bound": {"smallest_effect": 0.1}, "seed": 7}]
    assert [one.matchable for one in atlases] == [["ablation", "attribution"], ["attribution"], ["attribution"]]


def test_a_seed_is_there_only_where_something_is_drawn(atlas):
    job = {"model": "demo", "task": "inference", "first": "0", "last": "5"}
    kept, drawn = (
        json.loads(settings_of(atlas(seed=7, methods={"ablation": {"baseline": baseline}}), "ablate_layers", job))
        for baseline in ("mean", "resample")
    )
    assert "seed" not in kept
    assert drawn["seed"] == 7
    assert (kept["first_layer"], kept["last_layer"], kept["positions"]) == (0, 5, "answer")


def test_what_is_no_key_of_the_config_is_added(atlas):
    said = json.loads(settings_of(atlas(), "write_provenance", {"model": "demo"}, files={"a": "b"}, code={}))
    assert (said["name"], said["files"], said["code"]) == ("demo", {"a": "b"}, {})
    assert {*said["config"]} >= {"seed", "tasks", "statistics", "chat_template"}


def test_a_rule_that_is_not_in_use_has_no_settings(atlas):
    def left_out(**attribution):
        one = atlas(methods={"ablation": {}, "attribution": attribution, "probe": {}})
        return {"attribute_task", "integrate_task"} - {*of_every_rule(one)}

    assert left_out() == left_out(steps=1, path="line", rule="plain") == {"integrate_task"}
    assert left_out(steps=4) == left_out(path="expected") == left_out(rule="gim") == {"attribute_task"}


def test_points_that_are_drawn_have_a_seed(atlas):
    def said(**attribution):
        one = atlas(seed=7, methods={"attribution": {"steps": 2} | attribution})
        return json.loads(settings_of(one, "integrate_task", {"model": "demo", "task": "inference"})).get("seed")

    assert (said(), said(path="expected"), said(baseline="resample")) == (None, 7, 7)


def test_the_origin_of_exported_heads_changes_with_what_the_map_depends_on(atlas):
    made = origin(atlas(), "demo")
    assert (made["method"], made["baseline"]) == ("ablation", {"kind": "mean", "positions": "answer"})
    assert origin(atlas(evidence={"draws": 5}, export={"heads": "significant"}), "demo") == made
    changes = ({"seed": 1}, {"metric": "margin"}, {"items": {"max_items": 20}}, {"statistics": {"items": "correct"}})
    changes += ({"methods": {"ablation": {"positions": "all"}, "attribution": {}, "probe": {}}},)
    assert len({made["config"], *(origin(atlas(**change), "demo")["config"] for change in changes)}) == 6
    assert origin(atlas(export={"method": "probe"}), "demo")["baseline"] is None
    written = [{"items": {"answers": "generated"}, "generation": {"max_tokens": n}} for n in (3, 4)]
    assert len({origin(atlas(**change), "demo")["config"] for change in written}) == 2
    assert origin(atlas(generation={"max_tokens": 3}), "demo") == made  # the demo writes no answers
