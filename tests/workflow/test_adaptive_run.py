"""Adaptive ablation from config to findings, on a model in which one head alone has an effect."""

import json

import polars as pl
import pytest
from families import PLANTED, planted_model
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast
from workflow_runs import INDEPENDENT, copy_repository, finish, planned

LETTERS = "abcdefgh"
RESULTS = "results/planted"
CONFIG = INDEPENDENT | {
    "models": {"planted": {"path": "planted", "device": "cpu"}},
    "tasks": {"copying": {"source": "copying.jsonl"}},
    "items": {"validate_fraction": 0.4},
    "methods": {
        "ablation": {"positions": "all", "baseline": "zero", "items": "adaptive", "smallest_effect": 0.5},
        "attribution": {"baseline": "zero"},
    },
    "evidence": {"draws": 2, "halves": 10},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 72 questions, 43 of them for the maps."""
    folder = copy_repository(tmp_path_factory.mktemp("adaptive") / "run", CONFIG)
    planted_model().save_pretrained(folder / "planted")
    words = Tokenizer(WordLevel({letter: index for index, letter in enumerate(LETTERS)}))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "planted")
    items = ({"prompt": " ".join(letter * n), "answer": letter} for n in range(2, 11) for letter in LETTERS)
    (folder / "copying.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    finish(folder)
    return folder


def test_only_the_planted_head_is_measured_on_all_questions(run):
    table = pl.read_parquet(run / RESULTS / "importance.parquet").filter(method="ablation")
    stopped = table.filter("stopped")
    (whole,) = table.filter(~pl.col("stopped")).to_dicts()
    assert (whole["layer"], whole["head"], whole["rank"], whole["note"]) == (*PLANTED, 1, None)
    assert whole["effect"] > 1
    n = whole["n_questions"]
    assert (
        n == pl.read_parquet(run / RESULTS / "importance.parquet").filter(method="attribution")["n_questions"][0] > 30
    )
    assert stopped["n_questions"].unique().to_list() == [20]
    assert stopped["note"].unique().to_list() == [f"stopped after 20 of {n} questions"]
    assert (stopped["effect"] == 0).all()
    effects = load_file(run / RESULTS / "effects/ablation/copying.layers-0-2.safetensors")
    assert int((effects["effect"] == effects["effect"]).sum()) == n + 11 * 20


def test_evidence_takes_it_or_says_that_it_is_unknown(run):
    reliability = pl.read_parquet(run / RESULTS / "evidence/reliability.parquet")
    assert reliability.filter(method="ablation")["reliability"].to_list() == [None]
    summary = pl.read_parquet(run / RESULTS / "summary.parquet").filter(method="ablation").to_dicts()[0]
    assert (summary["stopped"], summary["heads"], summary["gini_low"]) == (11, 12, None)
    sets = json.loads((run / RESULTS / "evidence/knock-out/ablation/sets.json").read_text())
    assert sets["sets"]["copying"][1]["heads"] == [list(PLANTED)]
    findings = (run / RESULTS / "findings.md").read_text()
    assert "- Adaptive: 11 of 12 heads were measured on some of" in findings
    figure = (run / RESULTS / "figures/heatmap-grid.ablation.svg").read_text()
    assert "Measured on some of the questions only: 11 of 12 heads" in figure
    assert "on some of the questions" not in (run / RESULTS / "figures/heatmap-grid.attribution.svg").read_text()


def test_nothing_is_left_to_do(run):
    assert planned(finish(run, "--dry-run")) == {}
