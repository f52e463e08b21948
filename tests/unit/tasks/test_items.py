"""Splits by question, samples, items files, and the counts of the published data."""

import json
import os
import random
import re
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.formats import SKILLS
from headatlas.tasks.items import (
    Task,
    balance,
    items_content,
    read_items,
    read_task,
    sample,
    split_items,
    split_questions,
    warn_of_one_question,
    write_items,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from task_files import cogqa_file, lines, question, settings_of

ROOT = Path(__file__).parents[3]
COGQA = Path(os.environ.get("HEADATLAS_COGQA", ROOT.parent / "shared" / "data" / "cogqa"))
needs_cogqa = pytest.mark.skipif(
    not (COGQA / "train.json").is_file(), reason=f"no CogQA data in {COGQA} (set HEADATLAS_COGQA)"
)


# --- splits -----------------------------------------------------------------------------------------


def numbered(path: Path, n: int, per_question: int = 1) -> Path:
    """A file of n questions."""
    entries = (
        {"prompt": f"p{number}.{part}", "answer": "a", "question_id": f"q{number}"}
        for number in range(n)
        for part in range(per_question)
    )
    return lines(path, *entries)


def splits_of(task: Task) -> dict[str, str]:
    splits: dict[str, str] = {}
    for item in task.items:
        assert splits.setdefault(item.question_id, item.split) == item.split
    return splits


@pytest.mark.parametrize("n", [2, 3, 10, 57, 200])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.95])
def test_the_share_of_questions_is_met_within_one_and_none_is_torn_apart(n, fraction, tmp_path):
    task = read_task(settings_of(validate_fraction=fraction), [numbered(tmp_path / "t.jsonl", n, per_question=3)])
    splits = splits_of(task)
    validate = sum(split == "validate" for split in splits.values())
    assert len(splits) == n
    assert abs(validate - fraction * n) <= 1
    assert 1 <= validate <= n - 1


def test_questions_are_ranked_by_a_hash_of_seed_and_question(tmp_path):
    file = numbered(tmp_path / "t.jsonl", 20)
    for seed in (0, 1):
        ranked = sorted((f"q{n}" for n in range(20)), key=lambda q: sha256(f"{seed}\0split\0{q}".encode()).digest())
        splits = splits_of(read_task(settings_of(seed=seed), [file]))
        assert {q for q, split in splits.items() if split == "validate"} == set(ranked[:6])


def test_the_split_depends_neither_on_order_nor_on_samples_and_hardly_on_new_questions(tmp_path):
    file = numbered(tmp_path / "t.jsonl", 40)
    task = read_task(settings_of(), [file])
    shuffled = file.read_text().splitlines(keepends=True)
    random.Random(1).shuffle(shuffled)
    (tmp_path / "s.jsonl").write_text("".join(shuffled[:20]))
    (tmp_path / "r.jsonl").write_text("".join(shuffled[20:]))
    again = read_task(settings_of(), [tmp_path / "r.jsonl", tmp_path / "s.jsonl"])
    assert splits_of(again) == splits_of(task)
    assert [item.prompt for item in again.items] == [item.prompt for item in task.items]
    more = splits_of(read_task(settings_of(), [numbered(tmp_path / "u.jsonl", 41)]))
    assert sum(more[q] != split for q, split in splits_of(task).items()) <= 1


def test_a_split_in_the_file_wins_and_holds_for_the_whole_question(tmp_path):
    entries = [json.loads(line) for line in numbered(tmp_path / "t.jsonl", 12, per_question=2).read_text().splitlines()]
    entries[1]["split"] = "validate"  # q0, its second item
    entries[2]["split"] = entries[3]["split"] = "score"  # q1
    splits = splits_of(read_task(settings_of(), [lines(tmp_path / "t.jsonl", *entries)]))
    assert (splits.pop("q0"), splits.pop("q1")) == ("validate", "score")
    assert Counter(splits.values()) == {"score": 7, "validate": 3}


def test_a_task_needs_a_question_for_each_split_unless_nothing_is_validated(tmp_path):
    file = numbered(tmp_path / "t.jsonl", 1, per_question=5)
    message = "tasks.t: no question is left to validate on, the task has 1; add questions, or set items.validate_f"
    with pytest.raises(HeadAtlasError, match=re.escape(message)):
        read_task(settings_of(), [file])
    assert {item.split for item in read_task(settings_of(validate_fraction=0), [file]).items} == {"score"}
    entries = [json.loads(line) | {"split": "validate"} for line in file.read_text().splitlines()]
    with pytest.raises(HeadAtlasError, match="no question is left to score on"):
        read_task(settings_of(validate_fraction=0), [lines(file, *entries)])


@pytest.mark.parametrize(("n", "said"), [(2, ["score", "validate"]), (3, ["validate"]), (9, [])])
def test_one_question_in_a_split_is_warned_of(n, said, tmp_path, caplog):
    task = read_task(settings_of(), [numbered(tmp_path / "t.jsonl", n, per_question=2)])
    warn_of_one_question(task.items, "t")
    assert [message.split(", of which")[0] for message in caplog.messages] == [
        f"tasks.t: only one question to {split} on" for split in said
    ]


WEIGHTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 4), max_size=3).map(Counter),
    max_size=24,
)


@settings(max_examples=200, deadline=None)
@given(weights=WEIGHTS, fraction=st.floats(0, 0.99), seed=st.integers(0, 9))
def test_no_single_question_could_change_sides_and_bring_the_shares_nearer(weights, fraction, seed):
    splits = split_questions(weights, fraction, seed)
    assert set(splits) == set(weights)

    def distance(validate: set) -> float:
        total = 0.0
        for label in "xyz", "questions":
            for part in label if label == "xyz" else [label]:
                count = {q: 1 if part == "questions" else w[part] for q, w in weights.items()}
                n = sum(count.values())
                goal = min(max(fraction * n, 1), n - 1) if fraction > 0 and n > 1 else fraction * n
                total += (sum(count[q] for q in validate) - goal) ** 2 / n if n else 0
        return total

    chosen = {q for q, split in splits.items() if split == "validate"}
    assert all(distance(chosen ^ {q}) >= distance(chosen) - 1e-6 for q in weights)


def test_eight_tasks_of_the_same_files_agree_and_each_meets_the_share(tmp_path):
    draw = random.Random(0)
    labels = list(SKILLS.values())
    questions = [
        question(
            f"Q{n}",
            *((f"S{n}.{k}", "a", draw.choices(labels, range(1, 9))[0]) for k in range(draw.randint(2, 7))),
        )
        for n in range(300)
    ]
    files = [
        cogqa_file(tmp_path / "a.json", *questions[:200]),
        cogqa_file(tmp_path / "b.json", *questions[200:]),
    ]
    agreed: dict[str, str] = {}
    for skill in labels:
        task = read_task(settings_of(format="cogqa", skill=skill, context="none", seed=4), files)
        for q, split in splits_of(task).items():
            assert agreed.setdefault(q, split) == split
        validate = sum(item.split == "validate" for item in task.items)
        assert abs(validate - 0.3 * len(task.items)) <= 1
    assert abs(sum(split == "validate" for split in agreed.values()) - 0.3 * len(agreed)) <= 3


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
    with pytest.raises(HeadAtlasError, match=r"t\.json: is not a whole items file; delete it and run again"):
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


# --- texts that some settings need ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "setting"),
    [
        ("foil", "metric: margin"),
        ("counterfactual", "baseline: counterfactual"),
        ("same_answer", r"evidence\.same_answer"),
    ],
)
def test_an_item_without_a_text_that_a_setting_needs(tmp_path, key, setting):
    whole = {"prompt": "a", "answer": "b", "foil": "c", "counterfactual": "d", "same_answer": "e"}
    for wrong in ({}, {key: 3}, {key: ""}):
        other = {name: value for name, value in whole.items() if name != key} | {"prompt": "z"} | wrong
        source = lines(tmp_path / "t.jsonl", whole, other)
        with pytest.raises(
            HeadAtlasError, match=rf"^tasks\.t: .*t\.jsonl:2: has no '{key}' \(a text\), which {setting} needs of every"
        ):
            read_task(settings_of(partners=[key]), [source])
    source = lines(tmp_path / "t.jsonl", whole, whole | {"prompt": "z"})
    assert len(read_task(settings_of(partners=[key], validate_fraction=0), [source]).items) == 2
