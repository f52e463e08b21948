"""The library by itself: planted heads, the rules' own scripts on the same items, mistakes in one line."""

import ast
import importlib
import json
import math
import shutil
import subprocess
import sys
import tomllib
import warnings

import headatlas
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from families import PLANTED, planted_model
from headatlas.charts import head_maps
from headatlas.config.schema import fill_defaults, load_schema
from headatlas.workflow.settings import RENDER_ONLY
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedTokenizerFast
from workflow_runs import ROOT

LETTERS = "abcdefgh"
MODEL = {"path": "workflow/resources/demo-model", "revision": None, "dtype": "float32"}
NOTEBOOK = ROOT / "workflow/notebooks/library.ipynb"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The planted model as an atlas."""
    folder = tmp_path_factory.mktemp("planted")
    save(planted_model(scale=1), folder)
    return headatlas.open(folder, engine="replay")


def save(model: torch.nn.Module, folder) -> None:
    """Write a model of eight tokens, and a tokenizer of eight letters."""
    model.save_pretrained(folder)
    words = Tokenizer(WordLevel({letter: index for index, letter in enumerate(LETTERS)}))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder)


def copying(**more) -> list[dict]:
    """24 questions whose answer is the letter that fills the prompt; a margin's foil is the next one."""
    letters = list(zip(LETTERS, LETTERS[1:] + LETTERS[0], strict=True))
    return [
        {"prompt": " ".join(letter * n), "answer": letter, "foil": foil, "counterfactual": " ".join(foil * n)} | more
        for n in (2, 3, 4)
        for letter, foil in letters
    ]


# --- what is computed -----------------------------------------------------------------------------------------------


def gated(gate: torch.Tensor, margin: bool = False) -> torch.Tensor:
    """Log-probability (or margin over `b`) of `a` after `a a a`, with the planted head's output multiplied."""
    model = planted_model(scale=1).requires_grad_(False)
    layer, head = PLANTED

    def hook(_module, args):
        z = args[0].clone()
        z[..., 8 * head : 8 * head + 8] *= gate
        return (z,)

    model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook)
    logits = model(input_ids=torch.zeros(1, 3, dtype=torch.long)).logits[0, -1]
    return logits[0] - logits[1] if margin else logits.log_softmax(-1)[0]


@pytest.mark.parametrize("method", ["ablation", "attribution"])
def test_the_planted_head_has_all_of_the_effect(planted, method):
    table = planted.effects(copying(), method, baseline="zero")
    gate = torch.ones((), requires_grad=True)
    slope = torch.autograd.grad(gated(gate), gate)[0]
    expected = float(gated(gate.detach())) + math.log(8) if method == "ablation" else float(slope)
    assert expected > 1e-3
    assert table.height == 12
    assert table["method"].unique().to_list() == [method]
    for row in table.iter_rows(named=True):
        is_planted = (row["layer"], row["head"]) == PLANTED
        assert row["effect"] == pytest.approx(expected if is_planted else 0, abs=1e-5)
        assert row["importance"] == pytest.approx(float(is_planted), abs=1e-5)
        assert (row["n_items"], row["n_questions"]) == (24, 24)


def test_margins_and_counterfactual_prompts_are_those_of_the_workflow(planted):
    whole = float(gated(torch.ones(()), margin=True))  # nothing is left without the head
    margin = planted.effects(copying(), baseline="zero", metric="margin")
    assert margin.sort("rank")["effect"][0] == pytest.approx(whole, abs=1e-5)
    patched = planted.effects(copying(), baseline="counterfactual", metric="margin")  # the foil gets the logit instead
    assert patched.sort("rank")["effect"][0] == pytest.approx(2 * whole, abs=1e-5)


def test_a_knock_out_leaves_chance(planted):
    found = planted.knock_out([PLANTED, (0, 0)], copying(), baseline="zero")
    assert found["score"].to_list() == pytest.approx([-math.log(8)] * 24, abs=1e-5)
    assert (found["clean"] - found["score"]).to_list() == pytest.approx(found["effect"].to_list())
    assert found["clean_correct"].all()
    harmless = planted.knock_out([(0, 0)], copying(), baseline="zero")
    assert harmless["effect"].abs().max() < 1e-6
    assert found["id"].n_unique() == 24


def test_means_replace_a_head_as_the_word_mean_does(planted):
    items = copying()
    means = planted.means(items)
    assert means.shape == planted.shape == (3, 4, 8)
    # Of eight letters, each as often: one-hot in 32 dimensions, with a root mean square of 1.
    assert means[PLANTED] == pytest.approx(np.full(8, math.sqrt(32) / 8), abs=1e-4)
    by_word, by_array = (planted.effects(items, baseline=baseline) for baseline in ("mean", means))
    assert by_word["effect"].to_list() == pytest.approx(by_array["effect"].to_list(), abs=1e-6)
    first, second = items[:16], items[16:]
    pooled = planted.effects({"first": first, "second": second})
    assert pooled["task"].unique(maintain_order=True).to_list() == ["first", "second"]
    alone = planted.effects(first, baseline=means)
    assert pooled.filter(task="first")["effect"].to_list() == pytest.approx(alone["effect"].to_list(), abs=1e-6)


def test_a_hybrid_model_has_null_rows_and_says_that_it_takes_the_slow_way(tmp_path):
    torch.manual_seed(0)
    layers = ["conv", "full_attention", "full_attention"]
    shape = {"vocab_size": 8, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "block_ff_dim": 48, "layer_types": layers}
    save(Lfm2ForCausalLM(Lfm2Config(**shape, bos_token_id=1, eos_token_id=2, pad_token_id=0)), tmp_path)
    atlas = headatlas.open(tmp_path)
    with pytest.warns(UserWarning, match="effects ran the whole model for every edit, .* on items: layer 0 mixes"):
        table = atlas.effects(copying())
    assert table.filter(layer=0)["effect"].to_list() == [None] * 4
    means = atlas.means(copying())
    assert np.isnan(means).any(axis=(1, 2)).tolist() == [True, False, False]
    with pytest.warns(UserWarning, match="knock_out ran the whole model"):
        lost = atlas.knock_out([(2, 1)], copying(), baseline=means)
    assert lost["effect"].mean() == pytest.approx(table.filter(layer=2, head=1)["effect"][0], abs=1e-6)
    assert abs(lost["effect"].mean()) > 1e-4


def test_a_file_and_a_list_of_its_items_are_the_same(planted, tmp_path):
    file = tmp_path / "copying.jsonl"
    file.write_text("".join(f"{json.dumps(item)}\n" for item in copying(split="validate")[:12] + copying()[12:]))
    from_file, from_list = (planted.knock_out([PLANTED], items, baseline="zero") for items in (file, copying()))
    assert from_file.select("score", "clean", "question_id").equals(from_list.select("score", "clean", "question_id"))


# --- the notebook, and the rules' scripts on its items --------------------------------------------------------------


@pytest.fixture(scope="module")
def notebook():
    """The names that the notebook's cells define, and the value that each cell shows."""
    names, shown = {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                tree = ast.parse("".join(cell["source"]))
                last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
                exec(compile(tree, "cell", "exec"), names)
                shown += [eval(compile(ast.Expression(last.value), "cell", "eval"), names)] if last else []
    return names, shown


def rule(name: str, settings: dict, **files) -> None:
    script = importlib.import_module(name)
    script.main(script.Settings(**settings), **files)


@pytest.fixture(scope="module")
def by_rules(notebook, tmp_path_factory):
    """The importance table of the notebook's items, by the scripts of the rules, one after the other."""
    folder = tmp_path_factory.mktemp("rules")
    path = {name: folder / name for name in ("source", "items", "trace", "baseline", "table", "csv")}
    (folder / "source").write_text("".join(f"{json.dumps(item)}\n" for item in notebook[0]["tasks"]["inference"]))
    tokenizer = {key: MODEL[key] for key in ("path", "revision")} | {"chat_template": False, "trust_remote_code": False}
    task = {"task": "inference", "format": "jsonl", "join": "auto", "max_items": None, "max_tokens": 128, "seed": 0}
    runs = {"device": "cpu", "threads": 1, "batch_tokens": 8192, "memory_mb": 3000}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        rule(
            "prepare_task",
            task | {"validate_fraction": 0, "tokenizer": tokenizer},
            source=[path["source"]],
            items=path["items"],
        )
        rule("trace_task", {"model": MODEL}, items=path["items"], trace=path["trace"], **runs)
        pooled = {"tasks": ["inference"], "pool_size": 8, "seed": 0}
        rule("pool_baseline", pooled, traces=[path["trace"]], baseline=path["baseline"])
        given = {key: path[key] for key in ("items", "trace", "baseline")}
        how = {"task": "inference", "baseline": "mean", "positions": "answer"}
        layers = {"model": MODEL, "first_layer": 0, "last_layer": 5}
        rule("ablate_layers", how | layers, **given, **runs, effects=folder / "ablation", engine="replay")
        rule("attribute_task", how, **given, effects=folder / "attribution")
    for method in ("ablation", "attribution"):
        for layer in range(6):
            scored = {"model": "demo-model", "method": method, "task": "inference", "layer": layer}
            scored |= {"items": "all", "confidence": 0.95, "null": False}
            file = folder / f"scores/{method}/inference/layer-{layer}.parquet"
            rule("score_layer", scored, effects=folder / method, scores=file)
    gathered = {"methods": ["ablation", "attribution"], "tasks": ["inference"], "layers": 6}
    rule("aggregate", gathered, scores=folder / "scores", table=path["table"], csv=path["csv"])
    return pl.read_parquet(path["table"])


@pytest.mark.parametrize(("name", "method"), [("table", "ablation"), ("estimated", "attribution")])
def test_the_notebook_has_the_numbers_of_the_rules(name, method, notebook, by_rules):
    ours, theirs = notebook[0][name], by_rules.filter(method=method)
    assert ours.schema == theirs.schema
    for column in theirs.columns:
        if theirs.schema[column] == pl.Float64:
            assert ours[column].to_list() == pytest.approx(theirs[column].to_list(), abs=1e-6), column
        elif column != "rank":  # of heads with equal effects
            assert ours[column].equals(theirs[column], null_equal=True), column
    assert ours["effect"].abs().max() > 1e-3


def test_the_notebook_shows_charts_and_no_output_is_kept_in_it(notebook):
    names, shown = notebook
    charts = [value for value in shown if hasattr(value, "_repr_mimebundle_")]
    assert len(charts) == 2
    figures = fill_defaults(load_schema()["properties"]["figures"], {})
    wanted = {"figure": "heatmap-grid", "method": "ablation", "model": "demo-model", "tasks": ["inference"]}
    wanted |= {"metric": "log_prob", "figures": {k: value for k, value in figures.items() if k not in RENDER_ONLY}}
    drawn = head_maps.draw(names["table"], wanted)
    assert charts[0].to_dict()["datasets"] == drawn["datasets"]
    assert charts[0].to_dict()["title"] == drawn["title"]
    assert names["lost"]["effect"].mean() > 0.1  # nats: the top heads of other questions
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda atlas: atlas.effects([{"prompt": "a"}]), "^items: entry 1: answer is missing"),
        (lambda atlas: atlas.effects([{"prompt": "a", "answer": {1}}]), "items: items must be plain values: .* set"),
        (lambda atlas: atlas.effects({"No": copying()}), "task 'No': use lower-case letters"),
        (lambda atlas: atlas.effects("nowhere.jsonl"), r"nowhere\.jsonl"),
        (lambda atlas: atlas.effects("skills.json"), r"skills\.json: give JSON lines"),
        (lambda atlas: atlas.effects([{"prompt": "a", "answer": "b"}], metric="margin"), "entry 1: has no 'foil'"),
        (lambda atlas: atlas.effects(copying(), "probe"), "^method: must be ablation or attribution, got 'probe'$"),
        (lambda atlas: atlas.effects(copying(), baseline="resample"), "^baseline: must be mean, task_mean, zero or"),
        (lambda atlas: atlas.effects(copying(), baseline=np.zeros((3, 4, 7))), "the shape 3 x 4 x 7, .* 3 x 4 x 8$"),
        (lambda atlas: atlas.effects(copying(), confidence=95), "^confidence: must be a number above 0 and below 1"),
        (
            lambda atlas: atlas.effects(copying(), baseline=np.full((3, 4, 8), np.inf)),
            "task items: the effect of layer 0, head 0 on item 0 is not finite",
        ),
        (lambda atlas: atlas.means(copying(), "last"), "^positions: must be answer or all, got 'last'$"),
        (lambda atlas: atlas.knock_out([(3, 0)], copying()), r"has no head 3\.0 \(its 3 layers have 4 heads each"),
        (lambda atlas: atlas.knock_out([3], copying()), r"^heads: must be \(layer, head\) pairs .*, got 3$"),
        (lambda atlas: atlas.knock_out([(0, 1.5)], copying()), r"pairs of whole numbers, got \(0, 1\.5\)$"),
        (lambda atlas: headatlas.open("x", dtype="int8"), "^dtype: must be float32, bfloat16 or float16, got the text"),
        (lambda atlas: headatlas.open(ROOT / MODEL["path"], revision="main"), "^revision: applies to hub models, but"),
        (lambda atlas: headatlas.open(ROOT / "config"), r"config: .*no config\.json"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(call, said, planted):
    with pytest.raises(headatlas.HeadAtlasError, match=said) as error:
        call(planted)
    assert "\n" not in str(error.value)


def test_a_grid_of_several_methods_wants_one_and_looks_are_checked(planted):
    table = planted.effects(copying(), baseline="zero")
    both = pl.concat([table, planted.effects(copying(), "attribution", baseline="zero")])
    with pytest.raises(headatlas.HeadAtlasError, match="method: the table has ablation, attribution; say which"):
        planted.grid(both)
    assert "attribution" in planted.grid(both, "attribution").to_dict()["description"]
    for looks in ({"colums": 3}, {"formats": ["svg"]}):
        with pytest.raises(headatlas.HeadAtlasError, match="unknown key"):
            planted.grid(table, **looks)


def test_what_a_log_would_warn_of_is_a_warning(planted):
    with pytest.warns(UserWarning, match="only one question to score on, too few for intervals"):
        planted.effects(copying()[:1], baseline="zero")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planted.effects(copying(), baseline="zero")


def test_an_installed_package_finds_the_schemas_where_pip_puts_them(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ((place, (files,)),) = project["tool"]["setuptools"]["data-files"].items()
    packages = tmp_path / "lib/python/site-packages"
    shutil.copytree(ROOT / "scripts/headatlas", packages / "headatlas")
    (tmp_path / place).mkdir(parents=True)
    for file in ROOT.glob(files):
        shutil.copy2(file, tmp_path / place)
    program = f"""
import sys
sys.prefix = {str(tmp_path)!r}
sys.path.insert(0, {str(packages)!r})
from headatlas.config.schema import SCHEMA_FILE, load_schema
print(SCHEMA_FILE, *load_schema()["properties"])
"""
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    found, *sections = done.stdout.split()
    assert found == str(tmp_path / place / "config.schema.yaml")
    assert sections == [*load_schema()["properties"]]


def test_the_package_names_its_version_and_little_else():
    assert dir(headatlas) == headatlas.__all__
    with pytest.raises(AttributeError, match="has no attribute 'opne'; it has HeadAtlas, HeadAtlasError, "):
        headatlas.opne  # noqa: B018
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert headatlas.__version__ == project["version"] == citation["version"]
    assert torch.get_num_threads() == 1
