"""Samples, items files, and the counts of the published data."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.cogqa import SKILLS
from headatlas.tasks.items import (
    balance,
    items_content,
    read_items,
    read_task,
    sample,
    split_items,
    write_items,
)
from task_files import numbered, settings_of, splits_of

ROOT = Path(__file__).parents[3]
COGQA = Path(os.environ.get("HEADATLAS_COGQA", ROOT.parent / "shared" / "data" / "cogqa"))
needs_cogqa = pytest.mark.skipif(
    not (COGQA / "train.json").is_file(), reason=f"no CogQA data in {COGQA} (set HEADATLAS_COGQA)"
)


# --- samples ----------------------------------------------------------------------------------------


def test_a_sample_takes_whole_questions_keeps_the_share_and_grows_inside_larger_ones(tmp_path):
    task = read_task(settings_of(), [numbered(tmp_path / "t.jsonl", 30, per_question=4)])
    assert Counter(item.split for item in task.items) == {"score": 84, "validate": 36}
    smaller: set[str] = set()
    for n in range(2, 120):
        chosen = sample(task.items, n)
        counts = Counter(item.split for item in chosen)
        assert len(chosen) == n
        assert abs(counts["validate"] - 0.3 * n) <= 0.7  # 0.5 of rounding, and one at least
        cut = [q for q, k in Counter(item.question_id for item in chosen).items() if k < 4]
        assert len(cut) <= 2  # the last of each split
        assert {item.id for item in chosen} >= smaller
        smaller = {item.id for item in chosen}
    assert sample(task.items, 120) == sample(task.items, None) == task.items


def test_a_sample_is_seeded(tmp_path):
    file = numbered(tmp_path / "t.jsonl", 60)
    chosen = [{item.id for item in sample(read_task(settings_of(seed=s), [file]).items, 20)} for s in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def content_of(task: str, *splits: str) -> dict:
    """An items file of the given splits, numbered."""
    items = [{"id": f"{task}{n}", "split": split} for n, split in enumerate(splits)]
    counts = {"read": 9, "other_label": 0, "too_long": 0, "not_sampled": 9 - len(items)}
    return {
        "task": task,
        "counts": counts | {s: splits.count(s) for s in ("score", "validate")},
        "items": items,
    }


def test_balance_cuts_all_tasks_to_the_smallest_in_each_split():
    a = content_of("a", "score", "validate", "score", "score", "validate")
    b = content_of("b", "validate", "validate", "validate", "score", "score")
    cut_a, cut_b = balance([a, b])
    assert [item["id"] for item in cut_a["items"]] == ["a0", "a1", "a2", "a4"]
    assert [item["id"] for item in cut_b["items"]] == ["b0", "b1", "b3", "b4"]
    for cut in (cut_a, cut_b):
        assert cut["counts"] == {
            "read": 9, "other_label": 0, "too_long": 0, "not_sampled": 5, "score": 2, "validate": 2
        }  # fmt: skip
    assert a["counts"]["not_sampled"] == 4  # what was given is left as it was
    assert balance([]) == []


def test_an_items_file_comes_back_as_it_was_and_its_counts_add_up(tmp_path):
    task = read_task(settings_of(), [numbered(tmp_path / "t.jsonl", 10, per_question=2)])
    kept = sample(task.items[:18], 10)
    content = items_content("t", task, n_short=18, kept=kept)
    assert content["counts"] == {
        "read": 20, "other_label": 0, "too_long": 2, "not_sampled": 8, "score": 7, "validate": 3
    }  # fmt: skip
    write_items(tmp_path / "out" / "t.json", content)
    assert read_items(tmp_path / "out" / "t.json") == content
    assert set(content["items"][0]) == {
        "id", "question_id", "split", "prompt", "answer", "prompt_ids", "answer_ids"
    }  # fmt: skip
    assert [len(split_items(content, split)) for split in ("score", "validate")] == [7, 3]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"task": "t", "counts": {}}'])
def test_a_broken_items_file_is_refused(text, tmp_path):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(HeadAtlasError, match=r"t\.json: is not a complete items file; delete it and run again"):
        read_items(tmp_path / "t.json")


# --- the published data -----------------------------------------------------------------------------


@needs_cogqa
def test_cogqa_counts_are_those_of_the_raw_json(caplog):
    files = [COGQA / "train.json", COGQA / "test.json"]
    raw = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))]
    steps = [(q["question"], step) for q in raw for step in q["generated"]]
    labels = Counter(step["cognitive_skill"] for _, step in steps)
    agreed: dict[str, str] = {}
    for name, skill in SKILLS.items():
        task = read_task(settings_of(task=name, format="cogqa", skill=skill, context="all"), files)
        assert len(task.items) == labels[skill] == len({item.id for item in task.items})
        assert task.other_labels.total() == sum(n for label, n in labels.items() if label not in SKILLS.values())
        answers = Counter(str(step["answer"]) for _, step in steps if step["cognitive_skill"] == skill)
        assert Counter(item.answer for item in task.items) == answers
        assert len(splits_of(task)) == len({q for q, step in steps if step["cognitive_skill"] == skill})
        assert all(agreed.setdefault(q, split) == split for q, split in splits_of(task).items())
        validate = sum(item.split == "validate" for item in task.items)
        assert abs(validate - 0.3 * len(task.items)) <= 1
