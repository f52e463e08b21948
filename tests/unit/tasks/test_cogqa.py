"""CogQA files: the items made of them, and every mistake's message."""

import json
from hashlib import sha256

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks import text_file
from headatlas.tasks.cogqa import cogqa_items, read_cogqa
from headatlas.tasks.items import read_task
from task_files import cogqa_file, question, settings_of

STEPS = [
    ("How many? ", 16, "Retrieval"),
    ("Why?", "Because. ", "Induction"),
    ("What is it?", "A cat", "Knowledge Recall"),
    ("So how many now?", 33.50, "Retrieval"),
]


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        (
            "all",
            "Subquestion: How many?\nAnswer: 16\nSubquestion: Why?\nAnswer: Because.\n"
            "Subquestion: What is it?\nAnswer: A cat\n",
        ),
        ("none", ""),
        (["Knowledge Recall"], "Subquestion: What is it?\nAnswer: A cat\n"),
        (
            ["Retrieval", "Knowledge Recall"],
            "Subquestion: How many?\nAnswer: 16\nSubquestion: What is it?\nAnswer: A cat\n",
        ),
    ],
)
def test_a_subquestion_becomes_an_item_of_its_skill(context, shown, tmp_path):
    file = cogqa_file(tmp_path / "c.json", question("Pets?", ("Eh?", "x", "Inference")), question(" Lee has. ", *STEPS))
    first, second = cogqa_items(read_cogqa([file]), "Retrieval", context)
    assert first.prompt == "Question: Lee has.\nSubquestion: How many?\nAnswer:"
    assert (first.answer, first.id, first.where) == ("16", "c.json#2.1", "c.json: question 2, subquestion 1")
    assert second.prompt == f"Question: Lee has.\n{shown}Subquestion: So how many now?\nAnswer:"
    assert (second.answer, second.id) == ("33.5", "c.json#2.4")
    assert first.question_id == second.question_id == sha256(b"Lee has.").hexdigest()[:12]


def test_numbers_stay_as_the_file_writes_them(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([question("Q", ("S", "0", "Retrieval"))]).replace('"0"', "196.250"))
    (item,) = cogqa_items(read_cogqa([tmp_path / "c.json"]), "Retrieval", "all")
    assert item.answer == "196.250"


def test_labels_that_are_no_task_are_counted_and_named(tmp_path, caplog):
    file = cogqa_file(tmp_path / "c.json", question("A", *STEPS), question("B", *STEPS[:2]))
    task = read_task(settings_of(format="cogqa", skill="Retrieval", context="all"), [file])
    assert task.other_labels == {"Induction": 2}
    assert len(task.items) == 3
    assert "2 subquestions have the label 'Induction', which is not a task; left out" in caplog.text


ONE = question("Q", ("S", "A", "Retrieval"))
BAD_COGQA = [
    ([], ": no questions; is the file truncated?"),
    ({}, ": must be a JSON list of questions; for JSON lines set format: jsonl"),
    ([3], ": question 1: must be a JSON object with question and generated"),
    ([ONE, ONE], ": question 2: repeats the question of c.json: question 1; remove one"),
    ([ONE, {"generated": []}], ": question 2: question is missing; every entry needs question and generated"),
    ([ONE | {"question": ""}], ": question 1: question is empty; fill it in, or remove the entry"),
    ([ONE | {"question": 3}], ": question 1: question must be text, got a number"),
    ([ONE | {"generated": []}], ": question 1: generated must be a list of at least one subquestion"),
    ([ONE | {"generated": "x"}], ": question 1: generated must be a list of at least one subquestion"),
    ([ONE | {"generatd": []}], ": question 1: unknown key 'generatd'; did you mean 'generated'?"),
    (
        [ONE | {"generated": ["x"]}],
        ": question 1, subquestion 1: must be a JSON object with subquestion, answer and cognitive_skill",
    ),
    (
        [question("Q", ("S", " ", "Retrieval"))],
        ": question 1, subquestion 1: answer is empty; fill it in, or remove the entry",
    ),
    (
        [question("Q", ("S", "A", "Retrieval"), ("S", None, "Retrieval"))],
        ": question 1, subquestion 2: answer must be text or a number, got null",
    ),
    (
        [question("Q", ("S", "A", 4))],
        ": question 1, subquestion 1: cognitive_skill must be text, got a number",
    ),
    (
        [question("Q", ("S", float("nan"), "Retrieval"))],
        ": NaN is not a JSON number; give a number, or text in quotes",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD_COGQA, ids=[message[:60] for _, message in BAD_COGQA])
def test_a_mistake_in_cogqa_is_told_with_question_and_subquestion(content, message, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(HeadAtlasError) as error:
        read_cogqa([file])
    assert str(error.value).removeprefix(str(tmp_path)).removeprefix("/c.json").removeprefix("c.json") == message


def test_cogqa_that_is_not_json_or_lacks_the_skill_is_told(tmp_path):
    file = tmp_path / "c.json"
    file.write_text('[\n {"question": \n]', encoding="utf-8")
    with pytest.raises(HeadAtlasError, match=r"c\.json:3: is not valid JSON: Expecting value \(column 1\); fix it"):
        read_cogqa([file])
    file.write_bytes(b"[\xff]")
    with pytest.raises(HeadAtlasError, match=r"c\.json: is not UTF-8 text \(byte 1\)"):
        read_cogqa([file])
    with pytest.raises(HeadAtlasError, match=r"no subquestion is labelled 'Inference'; the labels are 'Retrieval'$"):
        cogqa_items(read_cogqa([cogqa_file(file, ONE)]), "Inference", "all")


def test_a_cogqa_file_larger_than_memory_allows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_file, "LARGEST_FILE", 50)
    with pytest.raises(HeadAtlasError, match="is larger than 50 bytes; is this a task file"):
        read_cogqa([cogqa_file(tmp_path / "c.json", ONE)])
