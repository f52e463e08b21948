"""Splits: shares are met, questions stay whole, and seeds decide."""

import json
import random
import re
from collections import Counter
from hashlib import sha256

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.cogqa import SKILLS
from headatlas.tasks.items import read_task
from headatlas.tasks.splits import split_questions, warn_of_one_question
from hypothesis import given, settings
from hypothesis import strategies as st
from task_files import cogqa_file, lines, numbered, question, settings_of, splits_of


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
    message = "tasks.t: no question is left to validate on (the task has 1); add questions, or set items.validate_f"
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
    assert [message.split(", too few")[0] for message in caplog.messages] == [
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
