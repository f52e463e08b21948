"""The workflow from its command line: what a run leaves behind, and what its sources look like to the linters."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from workflow_runs import (
    INDEPENDENT,
    REDUCED,
    ROOT,
    build_tiny,
    copy_repository,
    copy_run,
    environment,
    finish,
    snakemake,
)

TASKS = sorted(REDUCED["tasks"])
METHODS = ["ablation", "attribution", "probe"]
FIGURES = ["heatmap-grid", "signed-grid"]
COLUMNS = {
    "model": pl.String, "method": pl.String, "task": pl.String, "layer": pl.Int32, "head": pl.Int32,
    "effect": pl.Float64, "std_error": pl.Float64, "ci_low": pl.Float64, "ci_high": pl.Float64,
    "p_value": pl.Float64, "q_value": pl.Float64, "importance": pl.Float64, "rank": pl.Int32,
    "n_items": pl.Int32, "n_questions": pl.Int32, "stopped": pl.Boolean, "note": pl.String,
}  # fmt: skip


def geometry(folder: Path) -> tuple[int, int]:
    config = json.loads((folder / "workflow/resources/demo-model/config.json").read_text())
    return config["num_hidden_layers"], config["num_attention_heads"]


def score_items(folder: Path, task: str) -> list[dict]:
    items = json.loads((folder / f"results/demo/items/{task}.json").read_text())["items"]
    return [item for item in items if item["split"] == "score"]


def test_importance_has_one_row_per_method_task_layer_and_head(finished):
    table = pl.read_parquet(finished / "results/demo/importance.parquet")
    layers, heads = geometry(finished)
    assert set(COLUMNS) <= set(table.columns)
    assert {name: table.schema[name] for name in COLUMNS if name != "rank"} == {
        name: kind for name, kind in COLUMNS.items() if name != "rank"
    }
    expected = {(m, t, a, b) for m in METHODS for t in TASKS for a in range(layers) for b in range(heads)}
    assert set(table.select("method", "task", "layer", "head").iter_rows()) == expected
    assert table.height == len(expected)
    assert table["model"].unique().to_list() == ["demo"]
    for task in TASKS:
        items = score_items(finished, task)
        rows = table.filter(task=task)
        assert rows["n_items"].unique().to_list() == [len(items)]
        assert rows["n_questions"].unique().to_list() == [len({item["question_id"] for item in items})]


def test_importance_is_the_share_of_absolute_effect_and_ranks_follow_it(finished):
    table = pl.read_parquet(finished / "results/demo/importance.parquet")
    for _, rows in table.group_by("method", "task"):
        effects = rows["effect"].to_list()
        total = math.fsum(map(abs, effects))
        assert math.fsum(rows["importance"]) == pytest.approx(1, abs=1e-12)
        assert rows["importance"].to_list() == pytest.approx([abs(effect) / total for effect in effects], rel=1e-9)
        ordered = sorted(
            zip(rows["layer"], rows["head"], rows["importance"], rows["rank"], strict=True),
            key=lambda row: (-row[2], row[0], row[1]),
        )
        assert [row[3] for row in ordered] == list(range(1, rows.height + 1))
        assert (rows["ci_low"] <= rows["effect"]).all()
        assert (rows["effect"] <= rows["ci_high"]).all()
        assert (rows["q_value"] >= rows["p_value"]).all()


def test_the_probes_p_values_are_those_of_its_refits(finished):
    """Counted anew among the studentised effects of all heads in the four refits."""
    table = pl.read_parquet(finished / "results/demo/importance.parquet").filter(method="probe").sort("layer", "head")
    for task in TASKS:
        stored = load_file(finished / f"results/demo/effects/probe/{task}.safetensors")
        drawn = np.abs(stored["null_effect_all"] / stored["null_error_all"]).ravel()
        assert len(drawn) == 4 * math.prod(geometry(finished))
        effect, names = stored["effect"].reshape(len(stored["question"]), -1).astype(float), stored["question"]
        mean, n = effect.mean(0), len(set(names))
        sums = np.stack([(effect - mean)[names == name].sum(0) for name in sorted(set(names))])
        t = mean / (np.sqrt(n / (n - 1) * (sums**2).sum(0)) / len(effect))
        expected = [(1 + (drawn >= abs(each)).sum()) / (1 + len(drawn)) for each in t]
        assert table.filter(task=task)["p_value"].to_list() == pytest.approx(expected, abs=0)
    report = json.loads((finished / "results/demo/evidence/probe.json").read_text())
    assert (report["permutations"], len(report["null_accuracy"])) == (4, 4)
    assert max(report["null_accuracy"]) < report["accuracy"]


def test_score_files_are_the_rows_of_the_table(finished):
    table = pl.read_parquet(finished / "results/demo/importance.parquet")
    for method in METHODS:
        for task in TASKS:
            for layer in range(geometry(finished)[0]):
                scores = pl.read_parquet(finished / f"results/demo/scores/{method}/{task}/layer-{layer}.parquet")
                rows = table.filter(method=method, task=task, layer=layer).select(scores.columns).sort("head")
                assert scores.sort("head").equals(rows), (method, task, layer)
    csv = pl.read_csv(finished / "results/demo/importance.csv")
    assert csv.columns == table.columns
    assert csv["effect"].to_list() == pytest.approx(table["effect"].to_list(), rel=1e-9)


def test_every_figure_stands_in_every_format(finished):
    signatures = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF", "html": b"<!DOCTYPE html>", "json": b"{"}
    for figure in FIGURES:
        for method in METHODS:
            for form, signature in signatures.items():
                content = (finished / f"results/demo/figures/{figure}.{method}.{form}").read_bytes()
                assert signature in content[:200], (figure, method, form)


def test_lists_of_heads_follow_their_schema_and_hold_the_top_of_the_table_and_its_means(finished):
    schema = json.loads((ROOT / "workflow/schemas/heads.schema.json").read_text(encoding="utf-8"))
    table = pl.read_parquet(finished / "results/demo/importance.parquet").filter(method="ablation")
    means = load_file(finished / "results/demo/baseline.safetensors")
    for task in TASKS:
        content = json.loads((finished / f"results/demo/heads/{task}.json").read_text(encoding="utf-8"))
        jsonschema.validate(content, schema)
        top = table.filter(pl.col("rank") <= 10, task=task).sort("rank")
        entries = content["heads"]
        assert len(entries) == 10
        assert pl.DataFrame(entries, schema=top.select(entries[0].keys()).schema).equals(top.select(entries[0].keys()))
        vectors = load_file(finished / "results/demo/heads" / content["vectors"]["file"])
        for name in ("mean_all", "mean_answer"):
            assert np.array_equal(vectors[name], means[name][top["layer"].to_list(), top["head"].to_list()]), name


def test_no_draft_is_left_behind(finished):
    assert list((finished / "results").rglob(".*")) == []


def test_a_second_run_has_nothing_to_do(finished, tmp_path):
    folder = copy_run(finished, tmp_path / "again")  # in another folder: nothing depends on the path
    assert "Nothing to be done" in finish(folder)


def test_two_runs_make_equal_tables(finished, tmp_path):
    folder = copy_run(finished, tmp_path / "again")
    shutil.rmtree(folder / "results")
    figures = [f"results/demo/figures/{figure}.{method}.json" for figure in FIGURES for method in METHODS]
    finish(folder, "results/demo/summary.parquet", "results/demo/evidence/agreement.parquet", *figures)
    tables = sorted(path.relative_to(folder) for path in folder.glob("results/**/*.parquet"))
    assert len(tables) >= 1 + len(METHODS) * len(TASKS) * geometry(folder)[0]
    for path in tables:
        assert pl.read_parquet(folder / path).equals(pl.read_parquet(finished / path), null_equal=True), path
    for path in figures:
        assert (folder / path).read_bytes() == (finished / path).read_bytes(), path


def test_the_report_holds_figures_findings_and_tables_with_captions(finished, tmp_path):
    folder = copy_run(finished, tmp_path / "again")
    done = snakemake(folder, "--report", "report.html")
    assert done.returncode == 0, done.stdout[-3000:]
    report = (folder / "report.html").read_text(encoding="utf-8")
    figures = {path.stem for path in (folder / "results/demo/figures").glob("*.svg")}
    tables = {path.name for path in (folder / "results/demo").glob("**/*.parquet") if "scores" not in path.parts}
    for name in [*(f"{figure}.svg" for figure in figures), *tables - {"importance.parquet"}, "importance.csv"]:
        assert name in done.stdout, name
    for words in (
        '"Figures"', '"Findings"', '"Tables"',
        "Signed mean effect of every attention head of <strong>demo</strong> by exact ablation",
        "Whether <strong>demo</strong> can do each task",
    ):  # fmt: skip
        assert words in report, words
    assert not re.search(r"""(src|href)=["']http""", report)


def test_snakemake_lint_is_clean(finished):
    done = snakemake(finished, "--lint")
    assert done.returncode == 0, done.stdout
    assert "Congratulations" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "scripts", "tests", ".ci"],
        ["ruff", "format", "--check", "scripts", "tests", ".ci"],
        ["snakefmt", "--check", "Snakefile", "workflow"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_sources_are_clean(command):
    tool = Path(sys.executable).parent / command[0]
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


LISTING = """
import sys
from snakemake.cli import main
try:
    main(["--list-rules"])
finally:
    print("LOADED", sorted(name for name in {name} if name in sys.modules))
"""


def test_reading_the_snakefile_imports_no_heavy_library(finished):
    code = LISTING.replace("{name}", repr(["altair", "polars", "safetensors", "torch", "transformers"]))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished, env=environment(), capture_output=True, text=True, check=False
    )
    assert "score_layer" in done.stdout, done.stderr
    assert "LOADED []" in done.stdout


def test_a_system_without_locks_and_forks_is_told_so_in_one_line(tmp_path):
    """On Windows; here its lack of `fcntl` is pretended."""
    code = "import sys\nfrom snakemake.cli import main\nsys.modules['fcntl'] = None\nmain(['--list-rules'])"
    folder = copy_repository(tmp_path / "run", INDEPENDENT)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("on Windows run it in WSL.")
    assert "Traceback" not in done.stderr


def test_two_models_are_set_side_by_side(tmp_path):
    """The demo and a tiny random model, with and without questions to knock heads out on."""
    models = REDUCED["models"] | INDEPENDENT["models"]
    config = INDEPENDENT | {
        "models": models,
        "methods": {"ablation": {}},
        "evidence": {"draws": 2, "rankings": 4, "halves": 10},
    }
    folder = copy_repository(tmp_path / "run", config)
    build_tiny(folder / "tiny")
    wanted = ["models.csv", "pairs.parquet", "figures/comparison.ablation.svg"]
    findings = folder / "results/tiny/findings.md"
    finish(folder, str(findings.relative_to(folder)), *(f"results/comparison/{name}" for name in wanted))
    assert "**The model does none of these tasks.**" in findings.read_text(encoding="utf-8")  # it is untrained
    assert "significant" not in findings.read_text(encoding="utf-8")
    table = pl.read_csv(folder / "results/comparison/models.csv")
    assert table.select("model", "layers", "heads").unique(maintain_order=True).rows() == [
        ("demo", 6, 48),
        ("tiny", 2, 8),
    ]
    for model in models:
        rows, summary = table.filter(model=model), pl.read_parquet(folder / f"results/{model}/summary.parquet")
        assert rows["task"].to_list() == summary["task"].to_list()
        assert rows["top_5_percent"].to_list() == pytest.approx(summary["top_5_percent"].to_list())
        deepest = rows["layers"][0] - 1
        assert rows["centre"].to_list() == pytest.approx([centre / deepest for centre in summary["layer_centre"]])
        merit = pl.read_parquet(folder / f"results/{model}/evidence/dominance.parquet")
        assert rows["dominance"].to_list() == pytest.approx([merit["dominance"][0]] * 2)
    pairs = pl.read_parquet(folder / "results/comparison/pairs.parquet")
    assert pairs["task"].to_list() == [*sorted(INDEPENDENT["tasks"]), "(all)"]
    assert pairs["centre_difference"].to_list()[:2] == pytest.approx(
        [a - b for a, b in zip(*(table.filter(model=model)["centre"] for model in models), strict=True)]
    )
    svg = (folder / "results/comparison/figures/comparison.ablation.svg").read_text(encoding="utf-8")
    assert all(word in svg for word in (">demo<", ">tiny<", "Diagonal dominance"))
    plan = snakemake(
        folder, "--dry-run", "results/comparison/pairs.csv", "--config", "items={validate_fraction: 0}"
    ).stdout
    assert "dominance" not in plan
    assert "compare_models" in plan


def test_a_model_is_compared_head_by_head_with_itself_in_half_precision(tmp_path):
    """The differences are those of the two models' own maps; figure and findings show them."""
    demo = REDUCED["models"]["demo"]
    config = INDEPENDENT | {
        "models": {"demo": demo, "half": demo | {"dtype": "bfloat16", "compare_to": "demo"}},
        "methods": {"ablation": {}},
        "evidence": {"draws": 2, "sufficiency": False, "halves": 10},
    }
    folder = copy_repository(tmp_path / "run", config)
    wanted = ["figures/changes.ablation.svg", "importance.parquet", "findings.md"]
    finish(folder, "results/demo/importance.parquet", *(f"results/half/{name}" for name in wanted))
    order = ["task", "layer", "head"]
    changed = pl.read_parquet(folder / "results/half/evidence/head-changes.parquet").sort(order)
    half, whole = (
        pl.read_parquet(folder / f"results/{model}/importance.parquet").sort(order) for model in ("half", "demo")
    )
    for here, there in (("effect", half["effect"]), ("other", whole["effect"]), ("q_effect", half["q_value"])):
        assert changed[here].to_list() == pytest.approx(there.to_list())
    assert changed["difference"].to_list() == pytest.approx((half["effect"] - whole["effect"]).to_list(), abs=1e-9)
    assert changed["difference"].abs().max() > 0
    maps = pl.read_parquet(folder / "results/half/evidence/map-changes.parquet")
    assert maps["correlation"].min() > 0.99
    assert maps["paired"].all()
    assert ">Difference" in (folder / "results/half/figures/changes.ablation.svg").read_text(encoding="utf-8")
    findings = (folder / "results/half/findings.md").read_text(encoding="utf-8")
    assert "## Compared with `demo`, head by head" in findings


def cogqa_folder() -> Path | None:
    given = [os.environ.get("HEADATLAS_COGQA"), ROOT.parent / "shared/data/cogqa"]
    return next((Path(path) for path in given if path and (Path(path) / "test.json").is_file()), None)


SKILLS = (
    "knowledge_recall", "retrieval", "logical_reasoning", "decision_making",
    "semantic_understanding", "syntactic_understanding", "inference", "math_calculation",
)  # fmt: skip


def build_llama(folder: Path, texts: list[str]) -> None:
    """A tiny Llama with random weights, and a byte-level BPE tokenizer trained on the texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=400, special_tokens=["<s>"], show_progress=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, bos_token="<s>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=0, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.mark.skipif(cogqa_folder() is None, reason="no CogQA here: set HEADATLAS_COGQA to the folder of its test.json")
def test_cogqa_on_a_llama(tmp_path):
    data = cogqa_folder() / "test.json"
    questions = json.loads(data.read_text(encoding="utf-8"))
    build_llama(tmp_path / "llama", [question["question"] for question in questions])
    config = {
        "models": {"llama": {"path": str(tmp_path / "llama"), "device": "cpu"}},
        "tasks": {skill: {"source": str(data), "context": "none"} for skill in SKILLS},
        "items": {"max_items": 10},
        "methods": {"ablation": {}, "attribution": {}},
        "statistics": {"resamples": 100, "permutations": 100},
        "evidence": {"run": False},
        "figures": {"formats": ["png"]},
    }
    folder = copy_repository(tmp_path / "run", config)
    finish(folder)
    table = pl.read_parquet(folder / "results/llama/importance.parquet")
    assert table.height == 2 * 8 * 2 * 4
    for (method, task), rows in table.group_by("method", "task"):
        assert rows["importance"].sum() == pytest.approx(1, abs=1e-12), (method, task)
        assert 1 <= rows["n_items"].max() <= 10
    assert (folder / "results/llama/figures/heatmap-grid.ablation.png").stat().st_size > 10_000
    for task in SKILLS:
        items = json.loads((folder / f"results/llama/items/{task}.json").read_text())["items"]
        assert all("Question: " in item["prompt"] for item in items)
        assert len(items) == 10
