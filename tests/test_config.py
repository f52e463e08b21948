"""config.yaml: defaults, every mistake's message, the documents that go with it, and model folders."""

import copy
import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from headatlas import config_docs
from headatlas.config import (
    Geometry,
    check_layers_per_job,
    check_model_folder,
    check_repeated_keys,
    load_config,
    longest_item,
    read_geometry,
    task_settings,
)
from headatlas.errors import HeadAtlasError
from headatlas.schema import load_schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]


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
        "models": {
            "m": {
                "path": "model",
                "revision": None,
                "dtype": "float32",
                "device": "auto",
                "device_map": None,
                "attn_implementation": None,
                "chat_template": False,
                "trust_remote_code": False,
            }
        },
        "tasks": {
            "a": {"source": ["a.jsonl"], "format": "jsonl", "max_items": None},
            "b": {"source": ["b.jsonl"], "format": "jsonl", "max_items": None},
        },
        "items": {"validate_fraction": 0.3, "max_items": None, "balance": False, "max_tokens": None},
        "methods": {
            "ablation": {"positions": "answer", "baseline": "mean"},
            "attribution": {"positions": "answer", "baseline": "mean", "steps": 1},
            "probe": {
                "seeds": 5,
                "dimensions": 64,
                "hidden": 128,
                "epochs": 100,
                "batch_size": 64,
                "learning_rate": 0.001,
                "weight_decay": 0.01,
                "patience": 10,
                "standardise": True,
            },
        },
        "statistics": {"items": "all", "resamples": 2000, "permutations": 2000, "confidence": 0.95},
        "compute": {"batch_tokens": 8192, "threads": 1, "gpus": "auto", "layers_per_job": None},
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
        "skill": "Math Calculation",
        "context": "all",
        "max_items": 90,
    }
    assert loaded["deciding"]["skill"] == "Decision-making"
    assert loaded["deciding"]["context"] == ["Retrieval"]
    assert loaded["lines"] == {"source": ["e.txt"], "format": "jsonl", "max_items": 7}


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


def test_settings_of_a_task_are_what_prepare_task_needs(base):
    config = load_config(small(seed=3, items={"max_tokens": 500, "max_items": 20}), base)
    geometry = Geometry(4, 8, 128)
    assert task_settings(config, "m", "a", geometry) == {
        "task": "a",
        "format": "jsonl",
        "max_items": 20,
        "seed": 3,
        "validate_fraction": 0.3,
        "max_tokens": 128,  # the model's context, as the 500 asked for would not fit
        "tokenizer": {"path": "model", "revision": None, "chat_template": False, "trust_remote_code": False},
    }
    assert longest_item(config, Geometry(4, 8, 4096)) == 500
    assert longest_item(load_config(small(), base), Geometry(4, 8, None)) is None


# --- mistakes ---------------------------------------------------------------------------------------

A, B = {"source": "a.jsonl"}, {"source": "b.jsonl"}
MISTAKES = [
    # unknown keys
    ({"modles": {}}, "modles: unknown key; did you mean 'models'?"),
    ({"tasks": {"a": A | {"sorce": 1}, "b": B}}, "tasks.a.sorce: unknown key; did you mean 'source'?"),
    ({"compute": {"zzz": 1}}, "compute.zzz: unknown key; known: batch_tokens, threads, gpus, layers_per_job"),
    ({"methods": {"ablatoin": {}}}, "methods.ablatoin: unknown method; did you mean 'ablation'?"),
    ({"methods": {"sae": {}}}, "methods.sae: unknown method; known: ablation, attribution, probe"),
    ({"figures": {"colums": 4}}, "figures.colums: unknown key; did you mean 'columns'?"),
    # wrong types and values
    ({"seed": "0"}, "seed: must be a whole number from 0 to 4294967295, got the text '0'; write 0"),
    ({"seed": 1.0}, "seed: must be a whole number from 0 to 4294967295, got 1.0"),
    ({"seed": True}, "seed: must be a whole number from 0 to 4294967295, got true"),
    ({"seed": None}, "seed: must be a whole number from 0 to 4294967295, got nothing (null)"),
    (
        {"items": {"validate_fraction": 1}},
        "items.validate_fraction: must be a number of at least 0 and below 1, got 1",
    ),
    (
        {"items": {"validate_fraction": float("nan")}},
        "items.validate_fraction: must be a number of at least 0 and below 1, got NaN",
    ),
    ({"items": {"max_items": 1}}, "items.max_items: must be a whole number of at least 2 or null, got 1"),
    ({"items": []}, "items: must be a mapping of names to settings or null, got a list"),
    (
        {"statistics": {"items": "corect"}},
        "statistics.items: must be all or correct, got the text 'corect'; did you mean 'correct'?",
    ),
    ({"compute": {"gpus": 0}}, "compute.gpus: must be auto or a whole number from 1 to 1024, got 0"),
    (
        {"compute": {"layers_per_job": 0}},
        "compute.layers_per_job: must be a whole number of at least 1 or null, got 0",
    ),
    (
        {"methods": {"probe": {"learning_rate": "1e-3"}}},
        "methods.probe.learning_rate: must be a number above 0, got the text '1e-3'; write 0.001 "
        "(YAML takes 1e-3 for text)",
    ),
    (
        {"methods": {"ablation": {"baseline": "Mean"}}},
        "methods.ablation.baseline: must be mean, task_mean, zero or resample, got the text 'Mean'; "
        "did you mean 'mean'?",
    ),
    (
        {"models": {"m": {"path": "model", "device": "gpu"}}},
        "models.m.device: must be auto, cpu, cuda or cuda:N, got the text 'gpu'",
    ),
    (
        {"models": {"m": {"path": "model", "chat_template": "yes"}}},
        "models.m.chat_template: must be true or false, got the text 'yes'",
    ),
    ({"models": {"m": {"path": ""}}}, "models.m.path: must not be empty text"),
    (
        {"figures": {"scheme": "virids"}},
        "figures.scheme: must be viridis, cividis, magma, inferno, plasma, blues or greys, got the "
        "text 'virids'; did you mean 'viridis'?",
    ),
    ({"figures": {"columns": 0}}, "figures.columns: must be a whole number from 1 to 12, got 0"),
    (
        {"figures": {"upper_limit": -1}},
        "figures.upper_limit: must be max, a number above 0 or {quantile: 0.99}, got -1",
    ),
    # what is missing
    ({"models": {}}, "models: is empty; name at least one entry"),
    ({"models": None}, "models: must be a mapping of names to settings, got nothing (null)"),
    (
        {"models": {"m": {}}},
        "models.m.path: is missing; Local folder with config.json, safetensors weights and "
        "tokenizer, or the id of a model on the hub (owner/name).",
    ),
    ({"tasks": {}}, "tasks: is empty; name at least one entry"),
    ({"tasks": []}, "tasks: must be a mapping of names to settings, got a list"),
    ({"tasks": {"a": None, "b": B}}, "tasks.a: must be a mapping of names to settings, got nothing (null)"),
    (
        {"tasks": {"a": {"max_items": 5}, "b": B}},
        "tasks.a.source: is missing; The file with the task's items, or a list of such files; "
        "relative to where snakemake runs.",
    ),
    ({"methods": {}}, "methods: is empty; name at least one entry"),
    ({"methods": None}, "methods: must be a mapping of names to settings, got nothing (null)"),
    # names
    (
        {"models": {"M 1": {"path": "model"}}},
        "models.M 1: the name must be lower-case letters, digits, dot, dash and underscore only, a "
        "letter or digit first, at most 64 characters",
    ),
    (
        {"models": {"m\n": {"path": "model"}}},
        "models.m\\n: the name must be lower-case letters, digits, dot, dash and underscore only, a "
        "letter or digit first, at most 64 characters",
    ),
    (
        {"tasks": {"A": A, "b": B}},
        "tasks.A: the name must be lower-case letters, digits and underscore only, a letter first, "
        "at most 64 characters",
    ),
    ({"tasks": {1: A, "a": A, "b": B}}, "tasks.1: a key must be text; write it in quotes: '1'"),
    ({"seed": date(2024, 1, 1)}, "seed: is a date, which no key takes; write it in quotes if it is text"),
    # files
    (
        {"tasks": {"a": {"source": "e.txt"}, "b": B}},
        "tasks.a.format: cannot be told from e.txt; give jsonl or cogqa",
    ),
    (
        {"tasks": {"a": {"source": ["a.jsonl", "c.json"]}, "b": B}},
        "tasks.a.format: cannot be told from a.jsonl, c.json; give jsonl or cogqa",
    ),
    (
        {"tasks": {"a": {"source": "model", "format": "jsonl"}, "b": B}},
        "tasks.a.source: 'model' is a folder; name the files in it",
    ),
    (
        {"tasks": {"a": {"source": []}, "b": B}},
        "tasks.a.source: must be a path or a list of different paths, got a list",
    ),
    (
        {"tasks": {"a": {"source": ["a.jsonl", "./a.jsonl"]}, "b": B}},
        "tasks.a.source: names a file twice; take one out",
    ),
    (
        {"tasks": {"a": {"source": ["a.jsonl", "b.jsonl"]}, "b": B}},
        "tasks.b.source: shares a file, but not all files, with tasks.a: questions would be split "
        "into score and "
        "validate in two ways; give both tasks the same files",
    ),
    # combinations
    (
        {"models": {"m": {"path": "model", "revision": "main"}}},
        "models.m.revision: is for hub models, model is a local folder; take it out",
    ),
    (
        {"models": {"m": {"path": "model", "device": "cpu", "device_map": "auto"}}},
        "models.m.device_map: auto places the layers itself, but device is 'cpu'; take one of them out",
    ),
    (
        {"models": {"m": {"path": "model", "attn_implementation": "flash_attention_2"}}},
        "models.m.attn_implementation: flash_attention_2 needs dtype bfloat16 or float16",
    ),
    (
        {
            "models": {
                "m": {
                    "path": "model",
                    "attn_implementation": "flash_attention_2",
                    "dtype": "float16",
                    "device": "cpu",
                }
            }
        },
        "models.m.attn_implementation: flash_attention_2 needs a GPU, but device is cpu",
    ),
    (
        {"tasks": {"a": A | {"skill": "Inference"}, "b": B}},
        "tasks.a.skill: is for format cogqa, the task's format is jsonl; take it out",
    ),
    (
        {"tasks": {"a": A | {"context": "none"}, "b": B}},
        "tasks.a.context: is for format cogqa, the task's format is jsonl; take it out",
    ),
    (
        {"tasks": {"sums": {"source": "c.json"}, "b": B}},
        "tasks.sums.skill: cannot be told from the task's name; give Knowledge Recall, Retrieval, "
        "Logical Reasoning, "
        "Decision-making, Semantic Understanding, Syntactic Understanding, Inference or Math Calculation",
    ),
    (
        {"tasks": {"inference": {"source": "c.json", "context": "some"}, "b": B}},
        "tasks.inference.context: must be all, none, or a list of skills, got the text 'some'",
    ),
    (
        {"tasks": {"a": A}},
        "methods.probe: tells tasks apart, so needs two; add a task, or name other methods",
    ),
    (
        {"figures": {"order": ["a", "zz"]}},
        "figures.order: names the task 'zz', which is not under tasks; known: a, b",
    ),
    ({"figures": {"order": ["a", "a"]}}, "figures.order: names an entry twice; take one out"),
    (
        {"figures": {"labels": {"c": "C"}}},
        "figures.labels: names the task 'c', which is not under tasks; known: a, b",
    ),
    (
        {"figures": {"labels": {"a": "X", "b": "X"}}},
        "figures.labels: gives two tasks the label 'X'; labels must differ",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[message[:50] for _, message in MISTAKES])
def test_a_mistake_is_one_line_that_names_the_key_and_what_to_do(changes, message, base):
    assert messages(small(**changes), base) == [message]


def test_a_missing_file_says_where_it_was_looked_for(base):
    (said,) = messages(small(tasks={"a": {"source": "nein/a.jsonl"}, "b": B}), base / "model")
    assert said == f"tasks.a.source: there is no file 'nein/a.jsonl' (looked in {base} and {base / 'model'})"


def test_all_mistakes_are_said_at_once(base):
    config = {
        "sed": 1,
        "models": {"m": {"path": "model", "revision": "x"}, "n": {"path": "model", "dtype": "int8"}},
        "tasks": {"a": {"source": "gone.jsonl"}, "b": B | {"max_items": "ten"}},
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
        check_repeated_keys(file)
    file.write_text("a: &x {b: 1}\nc: {<<: *x, d: [{e: 1}, {e: 2}]}\n")
    check_repeated_keys(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a: [1", "is not valid YAML"), (b"a: \xff", "is not UTF-8 text"), (b"\tx: 1", "is not valid YAML")],
)
def test_a_config_file_that_cannot_be_read_is_refused(content, message, tmp_path):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(HeadAtlasError, match=message):
        check_repeated_keys(tmp_path / "c.yaml")


def test_a_block_of_more_layers_than_the_model_has_is_refused():
    check_layers_per_job(None, "demo", Geometry(6, 8, 128))
    check_layers_per_job(6, "demo", Geometry(6, 8, 128))
    with pytest.raises(HeadAtlasError, match="7 layers are more than the 6 of model 'demo'; give at most 6"):
        check_layers_per_job(7, "demo", Geometry(6, 8, 128))


# --- fuzzing ----------------------------------------------------------------------------------------


def complaint(act, otherwise: str = "config: fine") -> str:
    """What the project's own error says of something; any other error goes through."""
    try:
        act()
    except HeadAtlasError as error:
        return str(error)
    return otherwise


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
    config = changes if whole else small(models={"m": model}, tasks={"a": task, "b": B}) | changes
    said = complaint(lambda: json.dumps(load_config(config, base), allow_nan=False))
    assert all(re.match(r".*: \S", line) for line in said.split("\n"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text("ab:{}[]&*!-#\n \t'\"<,", max_size=60).map(str.encode))
def test_whatever_a_config_file_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    assert "\n" not in complaint(lambda: check_repeated_keys(tmp_path / "c.yaml"))


# --- schema, shipped configs and documents agree ----------------------------------------------------


def leaves(schema: dict, path: str = "") -> dict[str, dict]:
    """Every key of the schema that takes a value, written here anew to check `config_docs`."""
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
    assert all(key["description"] and key["recomputes"] for key in keys.values())


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
        row[0]: row
        for line in lines
        if line.startswith("| `") and len(row := re.split(r" ?\| ?", line)[1:-1]) == 6
    }
    told = {key.strip("`"): row[4].strip("`") for key, row in rows.items()}
    expected = {}
    for path, key in leaves(load_schema()).items():
        default = key.get("default", "required")
        expected[path] = default if isinstance(default, str) else json.dumps(default)
    assert told == expected


def test_the_readmes_tables_are_those_of_the_schema():
    text = (ROOT / "config" / "README.md").read_text()
    assert config_docs.with_tables(text) == text, "run: PYTHONPATH=scripts python -m headatlas.config_docs"


def test_the_shipped_config_shows_the_defaults():
    shipped = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    for path, key in leaves(load_schema()).items():
        path = path.replace("<model>", "demo")
        value = shipped
        for step in path.split("."):
            value = value.get(step, "absent") if isinstance(value, dict) else "absent"
        if value != "absent" and "default" in key:
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
    check_repeated_keys(ROOT / "config" / path)
    loaded = load_config(config, tmp_path)
    assert len(loaded["tasks"]) == 8
    assert list(loaded["methods"]) == ["ablation", "attribution", "probe"]


def test_importing_the_config_is_light():
    heavy = ["torch", "transformers", "polars", "numpy", "huggingface_hub", "pyarrow", "altair"]
    program = (
        f"import sys, headatlas.config as c; c.load_schema(); print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT / "scripts")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr


# --- models before they are loaded ------------------------------------------------------------------


def folder(tmp_path: Path, config: object = None, name: str = "Modell ü") -> Path:
    path = tmp_path / name
    path.mkdir(exist_ok=True)
    if config is not None:
        (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def weights(path: Path, n_bytes: int = 8) -> bytes:
    """A safetensors file of one tensor, written by hand."""
    entry = {"dtype": "F32", "shape": [n_bytes // 4], "data_offsets": [0, n_bytes]}
    header = json.dumps({"w": entry, "__metadata__": {"format": "pt"}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(n_bytes)
    path.write_bytes(content)
    return content


GEOMETRIES = [
    ({"num_hidden_layers": 32, "num_attention_heads": 16, "max_position_embeddings": 9}, (32, 16, 9)),
    ({"n_layer": 12, "n_head": 12, "n_positions": 1024, "n_ctx": 1024}, (12, 12, 1024)),
    ({"n_layer": 24, "n_head": 16}, (24, 16, None)),
    ({"num_layers": 6, "num_heads": 16, "max_position_embeddings": 2048}, (6, 16, 2048)),
    ({"n_layers": 40, "n_heads": 48, "max_seq_len": 32768}, (40, 48, 32768)),
    (
        {"text_config": {"num_hidden_layers": 34, "num_attention_heads": 8, "max_position_embeddings": 10},
         "num_hidden_layers": 27, "architectures": ["Gemma3ForConditionalGeneration"]},
        (34, 8, 10),
    ),
    ({"n_layer": 2, "n_head": 3, "seq_length": 2048, "architectures": ["BloomForCausalLM"]}, (2, 3, 2048)),
    ({"n_layer": 2, "n_head": 3, "architectures": ["GPT2LMHeadModel"]}, (2, 3, None)),
    (
        {"num_layers": 28, "num_attention_heads": 32, "seq_length": 8192, "architectures": ["ChatGLMModel"],
         "auto_map": {"AutoModelForCausalLM": "modeling.X"}},
        (28, 32, 8192),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), GEOMETRIES)
def test_geometry_is_read_by_any_familys_names(config, expected, tmp_path):
    assert read_geometry({"path": str(folder(tmp_path, config))}) == Geometry(*expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "the folder has no config.json; is it a model's?"),
        ("{", "is not valid JSON"),
        ("[]", "must hold a JSON object"),
        ("[" * 100_000, "is not valid JSON"),
        (
            {"n_head": 2},
            "gives no number of layers (looked for num_hidden_layers, n_layer, num_layers, n_layers)",
        ),
        ({"n_layer": 2, "n_head": "2"}, "gives no number of heads (looked for num_attention_heads"),
        ({"n_layer": True, "n_head": 2}, "gives no number of layers"),
        ({"architectures": ["BertForMaskedLM"]}, "is a BertForMaskedLM, not a causal language model"),
        ({"architectures": ["LlamaModel"]}, "is a LlamaModel, not a causal language model"),
        (
            {"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "has an encoder and a decoder",
        ),
    ],
)
def test_a_folder_that_is_no_causal_model_is_refused(config, message, tmp_path):
    path = folder(tmp_path, config)
    with pytest.raises(HeadAtlasError, match=re.escape(message)) as error:
        read_geometry({"path": str(path)})
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_an_adapter_and_a_file_and_nothing_are_not_models(tmp_path):
    path = folder(tmp_path)
    (path / "adapter_config.json").write_text("{}")
    with pytest.raises(HeadAtlasError, match="an adapter must be merged into its base model first"):
        read_geometry({"path": str(path)})
    with pytest.raises(HeadAtlasError, match="is a file; give the folder"):
        read_geometry({"path": str(path / "adapter_config.json")})
    with pytest.raises(
        HeadAtlasError, match=r"there is no such model folder \(looked in .*; a hub id would be owner"
    ):
        read_geometry({"path": "./nowhere/at/all"})


def test_a_hub_model_comes_from_the_cache_and_an_unreachable_hub_is_said_so(tmp_path):
    cached = tmp_path / "hub" / "models--some--model"
    snapshot = cached / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text(json.dumps({"n_layer": 3, "n_head": 5, "n_positions": 7}))
    program = (
        "from headatlas.config import read_geometry\nfrom headatlas.errors import HeadAtlasError\n"
        "print(read_geometry({'path': 'some/model', 'revision': None}))\n"
        "try: read_geometry({'path': 'no/model', 'revision': 'v2'})\nexcept HeadAtlasError as e: print(e)"
    )
    env = {"PYTHONPATH": str(ROOT / "scripts"), "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, cwd=tmp_path
    )
    found, refused = done.stdout.strip().split("\n")
    assert found == "Geometry(n_layers=3, n_heads=5, max_positions=7)"
    assert refused.startswith(
        f"no/model (revision v2): there is no such folder in {tmp_path}, so the Hugging Face hub was "
        f"asked, which "
        "gave no config.json: LocalEntryNotFoundError: "
    )


def test_a_whole_model_folder_passes(tmp_path):
    path = folder(tmp_path, {})
    weights(path / "model.safetensors")
    (path / "tokenizer.json").write_text("{}")
    check_model_folder({"path": str(path)})
    check_model_folder({"path": "owner/model-on-the-hub"})


def test_a_sharded_model_folder_needs_every_shard(tmp_path):
    path = folder(tmp_path, {})
    (path / "tokenizer.json").write_text("{}")
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    weights(path / "model-1.safetensors")
    with pytest.raises(HeadAtlasError, match=r"the index names model-2\.safetensors, which is missing"):
        check_model_folder({"path": str(path)})
    weights(path / "model-2.safetensors")
    check_model_folder({"path": str(path)})
    (path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(HeadAtlasError, match="is not an index of safetensors files"):
        check_model_folder({"path": str(path)})


def test_weights_that_are_missing_pickled_or_cut_short_are_refused(tmp_path):
    path = folder(tmp_path, {})
    model = {"path": str(path)}
    with pytest.raises(HeadAtlasError, match=r"has no weights \(\*\.safetensors\)"):
        check_model_folder(model)
    (path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(
        HeadAtlasError, match=r"has pickle weights only \(pytorch_model.bin\).*save_pretrained"
    ):
        check_model_folder(model)
    whole = weights(path / "model.safetensors", 400)
    for length in (0, 4, 8, 20, len(whole) - 400, len(whole) - 1):
        (path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(HeadAtlasError, match="cut short"):
            check_model_folder(model)
    (path / "model.safetensors").write_bytes(whole)
    with pytest.raises(HeadAtlasError, match=r"has no tokenizer \(looked for tokenizer.json, "):
        check_model_folder(model)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=64) | st.binary(max_size=40).map(lambda b: len(b).to_bytes(8, "little") + b)
)
def test_whatever_a_weights_file_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    path = folder(tmp_path, {})
    (path / "tokenizer.json").write_text("{}")
    (path / "model.safetensors").write_bytes(content)
    assert str(path) in complaint(lambda: check_model_folder({"path": str(path)}), f"{path}: fine")


def test_geometry_equals_what_transformers_reads(tmp_path):
    transformers = pytest.importorskip("transformers")
    kinds = "Llama Mistral Qwen2 Qwen3 Gemma2 Gemma3Text Phi3 GPT2 GPTNeoX OPT Falcon Bloom Starcoder2 Olmo2"
    for kind in (*kinds.split(), "Mixtral", "GPTJ", "GPTNeo", "Mpt"):
        config = getattr(transformers, f"{kind}Config")()
        path = folder(tmp_path, name=kind)
        config.save_pretrained(path)
        geometry = read_geometry({"path": str(path)})
        assert (geometry.n_layers, geometry.n_heads) == (
            config.num_hidden_layers,
            config.num_attention_heads,
        ), kind
        if kind not in ("Bloom",):
            positions = getattr(config, "max_position_embeddings", None) or config.max_seq_len
            assert geometry.max_positions == positions, kind


def test_no_file_is_opened_for_writing_at_parse_time(base):
    before = sorted(os.listdir(base))
    load_config(small(), base)
    assert sorted(os.listdir(base)) == before
