"""The same-answer control, heads kept alone and roles, from task file to findings: one head carries the answer."""

import json

import polars as pl
import pytest
from families import PLANTED, planted_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast
from workflow_runs import INDEPENDENT, copy_repository, copy_run, finish, planned, write_config

LETTERS = "abcdefgh"
LENGTHS = range(2, 9)
RESULTS = "results/planted"
TABLE = f"{RESULTS}/evidence/same-answer.parquet"
CPR = f"{RESULTS}/evidence/cpr.parquet"
TARGETS = [
    TABLE,
    CPR,
    f"{RESULTS}/heads.parquet",
    *(f"{RESULTS}/figures/{name}.svg" for name in ("same-answer", "sufficiency", "roles")),
    f"{RESULTS}/findings.md",
]
CONFIG = INDEPENDENT | {
    "models": {"planted": {"path": "planted", "device": "cpu"}},
    "tasks": {"copying": {"source": "copying.jsonl"}},
    "items": {"validate_fraction": 0.5},
    "methods": {"ablation": {"baseline": "zero"}},
    "evidence": {"draws": 2, "halves": 10, "same_answer": True, "top": 0.5, "roles": True},
}


def copying(length: int, letter: str, other: str) -> dict:
    """The answer is the letter that fills the prompt."""
    return {
        "prompt": " ".join(letter * length),
        "answer": letter,
        "counterfactual": " ".join(other * length),
        "same_answer": " ".join(letter * (length + 1)),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of 56 questions, half of them held out."""
    folder = copy_repository(tmp_path_factory.mktemp("same-answer") / "run", CONFIG)
    planted_model().save_pretrained(folder / "planted")
    words = Tokenizer(WordLevel({letter: index for index, letter in enumerate(LETTERS)}))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "planted")
    pairs = list(zip(LETTERS, LETTERS[1:] + LETTERS[0], strict=True))
    items = (copying(length, *pair) for length in LENGTHS for pair in pairs)
    (folder / "copying.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in items))
    finish(folder, *TARGETS)
    return folder


def test_the_planted_head_carries_the_answer_and_the_others_nothing(run):
    table = pl.read_parquet(run / TABLE)
    first, *others = table.to_dicts()
    assert (first["rank"], first["layer"], first["head"], first["carries"]) == (1, *PLANTED, "answer")
    assert (first["n_items"], first["n_questions"]) == (28, 28)
    assert first["counterfactual"] > 10
    assert abs(first["same_answer"]) < 1e-4
    assert len(others) == 5  # half of 12 heads
    for row in others:
        assert (row["counterfactual"], row["same_answer"], row["carries"]) == (0, 0, None)


def test_figure_findings_and_record_of_the_engine_tell_of_it(run):
    assert (run / RESULTS / "figures/same-answer.svg").stat().st_size > 1000
    layer, head = PLANTED
    sentence = f"Copying: of the 6 hottest heads 1 carries the answer ({layer}.{head}), 0 the question; 5 undecided."
    assert f"- {sentence}\n" in (run / RESULTS / "findings.md").read_text()
    (row,) = json.loads((run / RESULTS / "engines/patch_answers.json").read_text())
    assert (row["rule"], row["task"], row["engine"]) == ("patch_answers", "copying", "replay")
    assert row["checked"] > 0


def test_the_planted_head_kept_alone_suffices_and_random_rankings_find_it_by_chance(run):
    """Of 12 heads, the first by ablation is the planted one; k random heads hold it with probability k / 12."""
    ablation, random = pl.read_parquet(run / CPR).to_dicts()
    assert (ablation["method"], ablation["rankings"], ablation["heads"]) == ("ablation", 1, 12)
    assert ablation["cpr"] == pytest.approx(1 - 1 / 24, abs=1e-5)
    assert ablation["cmd"] == pytest.approx(1 / 24, abs=1e-5)
    assert (random["method"], random["rankings"], random["n_questions"]) == ("random", 30, 28)
    assert random["cpr_low"] < 0.5 < random["cpr_high"]
    text = (run / RESULTS / "findings.md").read_text()
    assert "| Copying | `random` |  | 0." in text
    assert "- Head-CPR: `ablation` is better than `random` for 1 of 1 tasks and worse for 0.\n" in text
    assert (run / RESULTS / "figures/sufficiency.svg").stat().st_size > 1000


def test_the_planted_head_copies_and_writes_the_answer(run):
    """Its attention is uniform, so a prompt of n equal letters gets it all, and only its copying is perfect."""
    heads, roles, overlap = (
        pl.read_parquet(run / RESULTS / f"{name}.parquet")
        for name in ("heads", "evidence/head-roles", "evidence/role-overlap")
    )
    place = dict(zip(("layer", "head"), PLANTED, strict=True))
    assert heads.filter(copying=1).select("layer", "head").rows() == [PLANTED]
    assert set(heads.filter(**place)["promoted"].item()) < set(LETTERS)
    assert roles.filter(**place)["direct"].item() > 1
    assert roles.filter(pl.col("direct") != 0).height == 1
    assert roles["retrieval_score"].to_list() == [1] * 12
    assert roles["span_mass"].to_list() == pytest.approx([1] * 12)
    row = overlap.filter(role="direct").row(0, named=True)
    assert (row["hottest"], row["strongest"], row["shared"]) == (1, 1, 1)
    assert row["p_value"] == pytest.approx(1 / 12)
    assert "| Copying | " in (run / RESULTS / "findings.md").read_text().split("What do the hot heads do?")[1]
    assert (run / RESULTS / "figures/roles.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("key", "value", "jobs"),
    [
        ("top", 0.4, {"choose_hottest": 1, "patch_answers": 1, "answer_control": 1, "record_engines": 1}),
        ("baseline", "zero", {}),
    ],
)
def test_what_an_edit_patches_again(run, tmp_path, key, value, jobs):
    """The baseline of the knock-outs is not that of the patches."""
    folder = copy_run(run, tmp_path / "run")
    write_config(folder, CONFIG | {"evidence": CONFIG["evidence"] | {key: value}})
    targets = [TABLE, f"{RESULTS}/engines/patch_answers.json"]
    assert planned(finish(folder, "--dry-run", *targets)) == jobs
