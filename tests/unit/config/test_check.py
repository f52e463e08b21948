"""config.yaml: defaults, every mistake's message, the documents that go with it, and model folders."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from headatlas.config.check import (
    Geometry,
    check_config_file,
    check_layers_per_job,
    load_config,
    longest_item,
)
from headatlas.config.schema import load_schema
from headatlas.errors import HeadAtlasError
from headatlas.workflow import config_docs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[3]


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A folder with the files that the configs below name, as the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jsonl", "b.jsonl", "c.json", "d.json", "e.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "model").mkdir()
    return tmp_path


def small(**changes) -> dict:
    """A config with two tasks; `changes` replace or add top-level keys."""
    tasks = {"a": {"source": "a.jsonl"}, "b": {"source": "b.jsonl"}}
    return {"models": {"m": {"path": "model"}}, "tasks": tasks} | changes


def messages(config: object, base: Path) -> list[str]:
    with pytest.raises(HeadAtlasError) as error:
        load_config(config, base)
    return str(error.value).split("\n")


# --- what comes back --------------------------------------------------------------------------------


def test_a_config_with_nothing_but_a_model_and_tasks_gets_every_default(base):
    given_config = small()
    kept = copy.deepcopy(given_config)
    loaded = load_config(given_config, base)
    assert given_config == kept
    figures = loaded.pop("figures")
    assert loaded == {
        "seed": 0,
        "metric": "log_prob",
        "models": {
            "m": {
                "path": "model",
                "revision": None,
                "dtype": "float32",
                "device": "auto",
                "device_map": None,
                "attn_implementation": None,
                "chat_template": False,
                "compare_to": None,
                "trust_remote_code": False,
            }
        },
        "tasks": {
            "a": {"source": ["a.jsonl"], "format": "jsonl", "join": "auto", "max_items": None},
            "b": {"source": ["b.jsonl"], "format": "jsonl", "join": "auto", "max_items": None},
        },
        "items": {"validate_fraction": 0.3, "max_items": None, "balance": False, "max_tokens": None},
        "methods": {
            "ablation": {
                "positions": "answer",
                "baseline": "mean",
                "items": "all",
                "top": None,
                "smallest_effect": None,
            },
            "attribution": {"positions": "answer", "baseline": "mean", "steps": 1},
            "probe": {
                "seeds": 5,
                "dimensions": 64,
                "hidden": 64,
                "epochs": 50,
                "batch_size": 128,
                "learning_rate": 0.001,
                "weight_decay": 0.01,
                "patience": 5,
                "standardise": True,
                "permutations": 4,
            },
        },
        "statistics": {"items": "all", "resamples": 2000, "permutations": 50000, "confidence": 0.95},
        "evidence": {
            "run": True,
            "draws": 10,
            "dissociation_k": None,
            "baseline": "mean",
            "positions": "answer",
            "same_answer": False,
            "groups": False,
            "sufficiency": True,
            "rankings": 30,
            "halves": 100,
            "top": 0.1,
            "folds": 5,
            "matched": False,
            "shuffles": 1000,
        },
        "export": {"heads": "top", "method": "ablation", "top": 10, "faithfulness": 0.9},
        "compute": {
            "engine": "auto",
            "batch_tokens": 8192,
            "memory": "auto",
            "threads": 1,
            "gpus": "auto",
            "layers_per_job": None,
        },
    }
    assert figures["columns"] == 4
    assert figures["scheme"] == "viridis"


def test_empty_sections_and_methods_take_their_defaults(base):
    loaded = load_config(small(items=None, statistics=None, figures=None, methods={"ablation": None}), base)
    plain = load_config(small(), base)
    assert loaded["methods"] == {"ablation": plain["methods"]["ablation"]}
    assert {key: loaded[key] for key in ("items", "statistics", "figures")} == {
        key: plain[key] for key in ("items", "statistics", "figures")
    }


def test_a_cogqa_task_knows_its_skill_and_context(base):
    tasks = {
        "math_calculation": {"source": ["c.json", "d.json"]},
        "deciding": {"source": ["d.json", "c.json"], "skill": "Decision-making", "context": ["Retrieval"]},
        "lines": {"source": "e.txt", "format": "jsonl", "max_items": 7},
    }
    loaded = load_config(small(tasks=tasks, items={"max_items": 90}), base)["tasks"]
    assert loaded["math_calculation"] == {
        "source": ["c.json", "d.json"],
        "format": "cogqa",
        "join": "auto",
        "skill": "Math Calculation",
        "context": "all",
        "max_items": 90,
    }
    assert loaded["deciding"]["skill"] == "Decision-making"
    assert loaded["deciding"]["context"] == ["Retrieval"]
    assert loaded["lines"] == {"source": ["e.txt"], "format": "jsonl", "join": "auto", "max_items": 7}


def test_paths_are_tried_from_the_working_directory_and_then_from_the_base(tmp_path, monkeypatch):
    project, elsewhere = tmp_path / "das Projekt ä", tmp_path / "elsewhere"
    for folder in (project, elsewhere, project / "model"):
        folder.mkdir()
    (project / "a.jsonl").write_text("")
    (project / "b.jsonl").write_text("")
    (elsewhere / "a.jsonl").write_text("")
    monkeypatch.chdir(elsewhere)
    loaded = load_config(small(), project)
    assert loaded["tasks"]["a"]["source"] == ["a.jsonl"]
    assert loaded["tasks"]["b"]["source"] == [str(project / "b.jsonl")]
    assert loaded["models"]["m"]["path"] == str(project / "model")


def test_an_item_is_as_long_as_the_config_and_the_model_allow(base):
    config = load_config(small(items={"max_tokens": 500}), base)
    assert longest_item(config, Geometry(4, 8, 128, 8)) == 128
    assert longest_item(config, Geometry(4, 8, 4096, 8)) == 500
    assert longest_item(load_config(small(), base), Geometry(4, 8, None, 8)) is None


# --- mistakes ---------------------------------------------------------------------------------------

MISTAKES = yaml.safe_load((Path(__file__).parent / "config_mistakes.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("edit", "says"), [m.values() for m in MISTAKES], ids=[m["says"][:50] for m in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_key_and_what_to_do(edit, says, base):
    assert messages(small(**edit), base) == [says]


def test_a_missing_file_says_where_it_was_looked_for(base):
    (said,) = messages(small(tasks={"a": {"source": "nein/a.jsonl"}, "b": {"source": "b.jsonl"}}), base / "model")
    assert said == f"tasks.a.source: there is no file 'nein/a.jsonl' (looked in {base} and {base / 'model'})"


def test_braces_in_paths_are_refused(base):
    (base / "a{1}.jsonl").write_text("")
    (base / "model}").mkdir()
    tasks = {"a": {"source": "a{1}.jsonl"}, "b": {"source": "b.jsonl"}}
    what = "contains a brace, which Snakemake reads as part of a wildcard; rename it"
    assert messages(small(models={"m": {"path": "model}"}}, tasks=tasks), base) == [
        f"models.m.path: model}} {what}",
        f"tasks.a.source: a{{1}}.jsonl {what}",
    ]


def test_all_mistakes_are_said_at_once(base):
    config = {
        "sed": 1,
        "models": {"m": {"path": "model", "revision": "x"}, "n": {"path": "model", "dtype": "int8"}},
        "tasks": {"a": {"source": "gone.jsonl"}, "b": {"source": "b.jsonl", "max_items": "ten"}},
        "statistics": {"resamples": 5},
        "figures": {"order": ["c"]},
    }
    keys = [line.split(": ")[0] for line in messages(config, base)]
    assert sorted(keys) == [
        "figures.order",
        "models.m.revision",
        "models.n.dtype",
        "sed",
        "statistics.resamples",
        "tasks.a.source",
        "tasks.b.max_items",
    ]


@pytest.mark.parametrize("config", [None, [], "models", 3])
def test_a_config_that_is_no_mapping_is_refused(config, base):
    (said,) = messages(config, base)
    assert said.startswith("config: must be a mapping of keys to values, got ")


def test_a_config_that_contains_itself_is_refused(base):
    endless: dict = {}
    endless["deeper"] = endless
    assert messages(small(items=endless), base)[0] == (
        "items.deeper.deeper: is nested too deeply; a config has at most five levels"
    )


def test_a_key_named_twice_is_refused_with_both_lines(tmp_path):
    file = tmp_path / "my config.yaml"
    file.write_text("seed: 0\ntasks:\n  a: {source: x}\n  b: {source: y}\n  a: {source: z}\n")
    message = "the key 'a' stands here a second time (first in line 3), and only one would count"
    with pytest.raises(HeadAtlasError, match=re.escape(f"{file}:5: {message}")):
        check_config_file(file)
    file.write_text("a: &x {b: 1}\nc: {<<: *x, d: [{e: 1}, {e: 2}]}\n")
    check_config_file(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "is not valid YAML"),
        (b"a: \xff", "is not UTF-8 text"),
        (b"\tx: 1", "is not valid YAML"),
        (b"", "c.yaml: is empty; it must hold keys with values, at least models and tasks"),
        (b"# nothing", "c.yaml: is empty"),
        (b"- a", "c.yaml: holds a list; it must hold keys"),
        (b"models", "c.yaml: holds a text; it must hold keys"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_refused(content, message, tmp_path):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(HeadAtlasError, match=message):
        check_config_file(tmp_path / "c.yaml")


def test_a_config_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeadAtlasError, match=rf"c.yaml: cannot be read \(looked in {tmp_path}\): No such file"):
        check_config_file(Path("c.yaml"))


def test_a_block_of_more_layers_than_the_model_has_is_refused():
    check_layers_per_job(None, "demo", Geometry(6, 8, 128, 8))
    check_layers_per_job(6, "demo", Geometry(6, 8, 128, 8))
    with pytest.raises(HeadAtlasError, match="7 layers are more than the 6 of model 'demo'; give at most 6"):
        check_layers_per_job(7, "demo", Geometry(6, 8, 128, 8))


# --- fuzzing ----------------------------------------------------------------------------------------


def complaint(act) -> str:
    """The message of the project's own error; any other error propagates."""
    try:
        act()
    except HeadAtlasError as error:
        return str(error)
    return "config: fine"


PATHS = ["a.jsonl", "c.json", "model", "auto", "cogqa", "all", "~nobody/x", "x" * 5000, "\0", "\ud800"]
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.dates(), st.binary(max_size=4)),
    *(st.text(max_size=12), st.sampled_from(PATHS)),
)
SECTIONS = ("models", "tasks", "items", "methods", "statistics", "compute", "figures")
IN_SECTIONS = (
    "path",
    "source",
    "format",
    "skill",
    "context",
    "max_items",
    "revision",
    "device",
    "device_map",
)
IN_FIGURES = ("seed", "ablation", "probe", "positions", "order", "labels", "upper_limit", "a", "b")
KEYS = st.one_of(
    *(st.sampled_from((*SECTIONS, *IN_SECTIONS, *IN_FIGURES)), st.text(max_size=6), st.integers(), st.none())
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(KEYS, VALUES, max_size=4), model=VALUES, task=VALUES, whole=st.booleans())
def test_whatever_is_given_only_the_projects_own_error_comes_out(base, changes, model, task, whole):
    config = changes if whole else small(models={"m": model}, tasks={"a": task, "b": {"source": "b.jsonl"}}) | changes
    said = complaint(lambda: json.dumps(load_config(config, base), allow_nan=False))
    assert all(re.match(r".*: \S", line) for line in said.split("\n"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("ab:{}[]&*!-#\n \t'\"<,", max_size=60).map(str.encode))
def test_whatever_a_config_file_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    assert "\n" not in complaint(lambda: check_config_file(tmp_path / "c.yaml"))


# --- schema, shipped configs and documents agree ----------------------------------------------------


def leaves(schema: dict, path: str = "") -> dict[str, dict]:
    """Every key of the schema that takes a value, reimplemented to check `config_docs`."""
    if path in ("models", "tasks"):
        return leaves(schema["additionalProperties"], f"{path}.<{path[:-1]}>")
    if "properties" not in schema:
        return {path: schema}
    return {
        at: leaf
        for key, part in schema["properties"].items()
        for at, leaf in leaves(part, f"{path}.{key}".strip(".")).items()
    }


def test_every_key_has_a_description_a_default_and_says_what_it_recomputes():
    keys = leaves(load_schema())
    assert len(keys) > 50
    required = {"models.<model>.path", "tasks.<task>.source"}
    assert {path for path, key in keys.items() if "default" not in key} == required
    assert all(key["description"] and config_docs.recomputed(path, key) for path, key in keys.items())


def test_the_schema_is_closed_everywhere():
    def objects(schema):
        if isinstance(schema, dict):
            if "properties" in schema:
                yield schema
            for part in schema.values():
                yield from objects(part)

    found = list(objects(load_schema()))
    assert len(found) >= 10
    for schema in found:
        assert schema.get("additionalProperties") is False or "minProperties" in schema


def test_the_readme_tells_every_key_with_the_schemas_default():
    lines = (ROOT / "config" / "README.md").read_text().split("\n")
    rows = {
        row[0]: row for line in lines if line.startswith("| `") and len(row := re.split(r" ?\| ?", line)[1:-1]) == 6
    }
    told = {key.strip("`"): row[4].strip("`") for key, row in rows.items()}
    expected = {}
    for path, key in leaves(load_schema()).items():
        default = key.get("default", "required")
        expected[path] = default if isinstance(default, str) else json.dumps(default)
    assert told == expected


def test_the_readmes_tables_are_those_of_the_schema():
    text = (ROOT / "config" / "README.md").read_text()
    assert config_docs.with_tables(text) == text, "run: PYTHONPATH=scripts python -m headatlas.workflow.config_docs"


def test_the_shipped_config_shows_the_defaults():
    shipped = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for path, key in leaves(load_schema()).items():
        path = path.replace("<model>", "demo")
        value = shipped
        for step in path.split("."):
            value = value.get(step, "absent") if isinstance(value, dict) else "absent"
        if path == "compute.engine":  # a slow demo is a failed demo
            assert value == "replay"
        elif value != "absent" and "default" in key:
            assert value == key["default"], path
    assert list(shipped["tasks"]) == [
        "knowledge_recall", "retrieval", "logical_reasoning", "decision_making",
        "semantic_understanding", "syntactic_understanding", "inference", "math_calculation",
    ]  # fmt: skip
    assert set(shipped) == set(load_schema()["properties"])


@pytest.mark.parametrize("path", ["config.yaml", "examples/llama-3.1-8b-cogqa.yaml"])
def test_shipped_configs_load(path, tmp_path, monkeypatch):
    config = yaml.safe_load((ROOT / "config" / path).read_text())
    for task in config["tasks"].values():
        for source in [task["source"]] if isinstance(task["source"], str) else task["source"]:
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / source).write_text("")
    monkeypatch.chdir(tmp_path)
    check_config_file(ROOT / "config" / path)
    loaded = load_config(config, tmp_path)
    assert len(loaded["tasks"]) == 8
    assert list(loaded["methods"]) == ["ablation", "attribution", "probe"]


def test_importing_the_config_is_light():
    heavy = ["torch", "transformers", "polars", "numpy", "huggingface_hub", "pyarrow", "altair"]
    program = (
        f"import sys, headatlas.config.check as c; c.load_schema(); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_no_file_is_opened_for_writing_at_parse_time(base):
    before = sorted(os.listdir(base))
    load_config(small(), base)
    assert sorted(os.listdir(base)) == before
