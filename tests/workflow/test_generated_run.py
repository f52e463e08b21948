"""Answers that the model writes itself, from task file to findings, where one head alone carries the answer."""

import json
import re

import polars as pl
import pytest
from families import PLANTED, planted_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast
from workflow_runs import INDEPENDENT, copy_repository, copy_run, finish, planned, snakemake, write_config

LETTERS = "abcdefgh"
LENGTHS = range(2, 9)
RESULTS = "results/planted"
TABLE = f"{RESULTS}/evidence/generated.parquet"
TARGETS = [TABLE, f"{RESULTS}/findings.md"]
CONFIG = INDEPENDENT | {
    "models": {"planted": {"path": "planted", "device": "cpu"}},
    "tasks": {"copying": {"source": "copying.jsonl"}},
    "items": {"validate_fraction": 0.5, "answers": "generated"},
    "generation": {"max_tokens": 2, "stop": ["h"], "check": "exact"},
    "methods": {"ablation": {"baseline": "zero"}},
    "evidence": {"draws": 2, "halves": 10, "sufficiency": False, "generated": True, "baseline": "zero"},
}


def copying(length: int, letter: str) -> dict:
    """The model writes the letter that fills the prompt twice; to h, at which answers end, it writes nothing.

    The references of b are wrong, and not what the model writes.
    """
    return {"prompt": " ".join(letter * length), "answer": f"{letter} {letter}" if letter != "b" else "c c"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 56 questions, half of them held out."""
    folder = copy_repository(tmp_path_factory.mktemp("generated") / "run", CONFIG)
    model = planted_model()
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # by default the letter c ends texts
    model.save_pretrained(folder / "planted")
    words = Tokenizer(WordLevel({letter: index for index, letter in enumerate(LETTERS)}))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "planted")
    items = (copying(length, letter) for length in LENGTHS for letter in LETTERS)
    (folder / "copying.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    finish(folder, *TARGETS)
    return folder


def read(run, name: str) -> dict:
    return json.loads((run / RESULTS / name / "copying.json").read_text())


def test_items_hold_what_the_model_wrote_and_the_file_of_answers_what_is_right(run):
    answers, items = read(run, "answers"), read(run, "items")
    assert answers["counts"] == {"correct": 6 * 7, "empty": 7}
    assert len(answers["items"]) == 56
    for one in answers["items"]:
        letter = one["text"][:1]
        assert one["text"] == ("" if one["reference"] == "h h" else f"{letter} {letter}")
        assert one["correct"] == (letter == one["reference"][0])
        assert one["end"] == ("length" if letter else "stop")
    assert (items["counts"]["empty"], len(items["items"])) == (7, 49)
    for item in items["items"]:
        assert item["answer"] == f"{item['prompt'][0]} {item['prompt'][0]}"
        assert item["answer_ids"] == [LETTERS.index(item["prompt"][0])] * 2
        assert item["right"] == (item["answer"] == item["reference"]) == (item["prompt"][0] != "b")
    log = (run / RESULTS / "logs/take_answers/copying.log").read_text()
    assert "7 of 56 items are left out: the model wrote no answer to them" in log


def test_accuracy_counts_all_that_was_asked_and_effects_are_of_what_was_written(run):
    (row,) = pl.read_parquet(run / RESULTS / "evidence/capability.parquet").to_dicts()
    assert (row["accuracy"], row["n_items"], row["n_empty"], row["check"]) == (42 / 56, 56, 7, "exact")
    assert row["chance"] == 14 / 56  # always "c c", which is also the reference of b
    assert row["score"] > -0.01  # the model is sure of what it wrote, wrong or right
    table = pl.read_parquet(run / RESULTS / "importance.parquet").sort("rank")
    assert table.select("layer", "head").row(0) == PLANTED
    assert table["effect"][0] > 1
    assert table["effect"][1:].abs().max() == 0


def test_without_the_planted_head_the_model_writes_the_first_token(run):
    """All logits are equal without it. Held-out questions count whether or not the model has an answer to them."""
    asked = [item for item in read(run, "questions")["items"] if item["split"] == "validate"]
    assert len(asked) == 28
    right = {
        "none": sum(item["prompt"][0] not in "bh" for item in asked),
        "top": sum(item["prompt"][0] == "a" for item in asked),
    }
    table = pl.read_parquet(run / TABLE)
    assert table["selection"].to_list() == ["none", "top", "random", "random"]
    assert table["k"].to_list() == [0, 1, 1, 1]
    assert table["n_items"].unique().to_list() == [28]
    assert table["accuracy"].to_list() == pytest.approx([right[name] / 28 for name in ("none", "top", "none", "none")])
    assert table["below_random"][1] == pytest.approx((right["none"] - right["top"]) / 28)
    assert table["p_adjusted"][1] < 1e-4
    written = json.loads((run / RESULTS / "evidence/generated/ablation.json").read_text())["tasks"]["copying"]
    top = next(one for one in written["sets"] if one["selection"] == "top")
    assert top["heads"] == [[*PLANTED]]
    assert set(top["texts"]) == {"a a"}


def test_the_findings_say_both(run):
    text = (run / RESULTS / "findings.md").read_text()
    assert (
        "The model itself writes the answers of Copying: there exact match is the share of items to which it writes a "
        "right answer, and the maps are of what it writes, right or wrong. Copying: right by the check `exact` for 75% "
    ) in text
    assert "of 56 items, 7 of which it left without an answer. Chance is" in text
    assert (
        "- Written answers, on held-out questions: without its top 1 heads the model is right less often than without "
        "1 random heads of the same layers (mean of 2 draws) for Copying (paired difference, Holm-adjusted over tasks, "
        "p < 0.05). Right with all heads, without random ones, without the top ones: Copying "
    ) in text


WRITES = {"generate_answers": 1, "take_answers": 1}
BELOW = {"trace_task": 1, "pool_baseline": 1, "measure_capability": 1, "ablate_layers": 1}
EVIDENCE = {"choose_heads": 1, "generate_without_heads": 1, "generated_accuracy": 1}


@pytest.mark.parametrize(
    ("section", "key", "value", "jobs"),
    [
        ("generation", "check", "first_word", {"take_answers": 1} | BELOW | EVIDENCE),
        ("generation", "max_tokens", 1, WRITES | BELOW | EVIDENCE),
        ("items", "answers", "reference", {"prepare_task": 1} | BELOW | EVIDENCE),
    ],
)
def test_what_an_edit_does_again(run, tmp_path, section, key, value, jobs):
    folder = copy_run(run, tmp_path / "run")
    write_config(folder, CONFIG | {section: CONFIG[section] | {key: value}})
    assert planned(finish(folder, "--dry-run", TABLE, f"{RESULTS}/evidence/capability.parquet")) == jobs


def test_a_reference_without_a_number_stops_the_run_before_the_model_is_loaded(run, tmp_path):
    folder = copy_run(run, tmp_path / "run")
    (folder / "copying.jsonl").write_text((folder / "copying.jsonl").read_text().replace("a a a", "a a b"))
    write_config(folder, CONFIG | {"generation": CONFIG["generation"] | {"check": "number"}})
    said = snakemake(folder, *TARGETS)
    wrong = r"copying\.jsonl:\d+: the answer '[a-h] [a-h]' holds no number in digits, so check: number is never right"
    assert re.search(wrong, said.stdout)
    assert said.returncode != 0
    assert "] generate_answers:" not in said.stdout
