"""Files of prompts and answers: what is read from them, and every mistake's message."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.items import items_content, read_task
from headatlas.tasks.prompts import read_prompts
from task_files import lines, settings_of

# --- JSON lines -------------------------------------------------------------------------------------


def test_json_lines_are_read_as_written(tmp_path):
    file = tmp_path / "a b.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"prompt": "one ", "answer": " x"}\r\n'
        b"\n   \n"
        b'{"prompt": "two", "answer": 196.50, "question_id": 7, "id": "mine"}\n'
        b'{"answer": 44, "prompt": "three", "split": null}\n'
        b'{"answer": -1.5e+30, "prompt": "four \xc3\xa4\\n", "question_id": "q"}'
    )
    one, two, three, four = read_prompts([file], "jsonl")
    assert (one.prompt, one.answer, one.id, one.where) == ("one ", " x", "a b.jsonl:1", f"{file}:1")
    assert (two.answer, two.question_id, two.id, two.where) == ("196.50", "7", "mine", f"{file}:4")
    assert (three.answer, three.split, three.id) == ("44", None, "a b.jsonl:5")
    assert (four.prompt, four.answer, four.question_id) == ("four ä\n", "-1.5e+30", "q")
    assert one.question_id == sha256(b"one ").hexdigest()[:12]


def test_items_of_one_prompt_are_one_question_and_files_of_one_name_stay_apart(tmp_path):
    (tmp_path / "x").mkdir()
    first = lines(tmp_path / "t.jsonl", {"prompt": "p", "answer": "a"}, {"prompt": "p", "answer": "b"})
    second = lines(tmp_path / "x" / "t.jsonl", {"prompt": "q", "answer": "a"})
    a, b, c = read_prompts([first, second], "jsonl")
    assert a.question_id == b.question_id != c.question_id
    assert [a.id, b.id, c.id] == [f"{first}:1", f"{first}:2", f"{second}:1"]


def test_the_keys_of_paired_prompts_are_kept_and_change_nothing(tmp_path):
    plain = {"id": "i", "prompt": "p", "answer": "a"}
    paired = plain | {"form": "f", "foil": "b", "counterfactual": "q", "same_answer": "r"}
    (one,), (other,) = (read_prompts([lines(tmp_path / "t.jsonl", entry)], "jsonl") for entry in (plain, paired))
    assert other.extra == {key: value for key, value in paired.items() if key not in plain}
    assert replace(other, extra={}) == one


GOOD = b'{"prompt": "p", "answer": "a"}\n'
BAD_LINES = [
    (b"", ": no items; give one JSON object with prompt and answer per line"),
    (b"\n \n", ": no items; give one JSON object with prompt and answer per line"),
    (
        GOOD + b"{",
        ":2: is not valid JSON: Expecting property name enclosed in double quotes (column 2); fix it",
    ),
    (GOOD + b'{"prompt": "x"} {', ":2: is not valid JSON: Extra data (column 17); fix it"),
    (GOOD + b'{"prompt": "\xff", "answer": "a"}', ":2: is not UTF-8 text (byte 12); save the file as UTF-8"),
    (GOOD.decode().encode("utf-16"), ":1: is not UTF-8 text (byte 0); save the file as UTF-8"),
    (
        b"[1]",
        ":1: is a JSON list, not an object; set format: json for a list of prompts and answers, or cogqa for CogQA "
        "files",
    ),
    (b"3", ":1: must be a JSON object with prompt and answer"),
    (b'"x"', ":1: must be a JSON object with prompt and answer"),
    (b'{"prompt": "p"}', ":1: answer is missing; every entry needs prompt and answer"),
    (b'{"promt": "p", "answer": "a"}', ":1: unknown key 'promt'; did you mean 'prompt'?"),
    (b'{"prompt": "p", "answer": "a", "splt": "score"}', ":1: unknown key 'splt'; did you mean 'split'?"),
    (b'{"prompt": "p", "x": "a"}', ":1: answer is missing; every entry needs prompt and answer"),
    (
        b'{"question": "p", "target": "a"}',
        ":1: prompt and answer are missing; rename the key 'question' to prompt and 'target' to answer",
    ),
    (b'{"prompt": "p", "Label": "a"}', ":1: answer is missing; rename the key 'Label' to answer"),
    (b'{"prompt": 5, "answer": "a"}', ":1: prompt must be text, got a number"),
    (b'{"prompt": "p", "answer": null}', ":1: answer must be text or a number, got null"),
    (b'{"prompt": "p", "answer": true}', ":1: answer must be text or a number, got true or false"),
    (b'{"prompt": "p", "answer": ["a"]}', ":1: answer must be text or a number, got a list"),
    (b'{"prompt": "p", "answer": {}}', ":1: answer must be text or a number, got an object"),
    (b'{"prompt": " \\n", "answer": "a"}', ":1: prompt is empty; fill it in, or remove the entry"),
    (b'{"prompt": "p", "answer": ""}', ":1: answer is empty; fill it in, or remove the entry"),
    (
        b'{"prompt": "p", "answer": NaN}',
        ":1: NaN is not a JSON number; give a number, or text in quotes",
    ),
    (
        b'{"prompt": "p", "answer": -Infinity}',
        ":1: -Infinity is not a JSON number; give a number, or text in quotes",
    ),
    (b'{"prompt": "p", "prompt": "q", "answer": "a"}', ":1: has the key 'prompt' twice; remove one"),
    (
        b'{"prompt": "p", "answer": "\\ud83d"}',
        ":1: answer has half a character (a lone \\ud800 to \\udfff); fix it",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": "valid"}',
        ":1: split must be score or validate, got 'valid'",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": 1}',
        ":1: split must be score or validate, got '1'",
    ),
    (b'{"prompt": "p", "answer": "a", "id": ""}', ":1: id is empty; fill it in, or remove the entry"),
    (
        b'{"prompt": "p", "answer": "a", "question_id": []}',
        ":1: question_id must be text or a number, got a list",
    ),
    (GOOD + GOOD, ":2: repeats the prompt and answer of {file}:1; remove one"),
    (
        b'{"prompt": "p", "answer": "a", "id": 3}\n{"prompt": "q", "answer": "a", "id": "3"}',
        ":2: repeats the id of {file}:1; remove one",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": "score"}\n{"prompt": "p", "answer": "b", "split": "validate"}',
        ":2: has split validate, but {file}:1 of the same question '148de9c5a7a4' has split score; "
        "give a question one split",
    ),
    (b"[" * 100_000, ":1: is nested too deeply for a task file"),
    (
        b'{"prompt": "p", "answer": "a", "x": ' + b"[" * 20 + b"]" * 20 + b"}",
        ":1: is nested too deeply for a task file",
    ),
    (
        b'{"prompt": "p", "answer": "a", "x": ["\\ud83d"]}',
        ":1: has half a character (a lone \\ud800 to \\udfff); fix it",
    ),
    (GOOD + b"x" * (1 << 20) + b"\n", ":2: is longer than 1048576 bytes; is this JSON lines?"),
]


@pytest.mark.parametrize(("content", "message"), BAD_LINES, ids=[message[:60] for _, message in BAD_LINES])
def test_a_mistake_in_json_lines_is_told_with_file_and_line(content, message, tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_bytes(content)
    with pytest.raises(HeadAtlasError) as error:
        read_prompts([file], "jsonl")
    assert str(error.value) == f"{file}{message.replace('{file}', str(file))}"


# --- lists and tables -------------------------------------------------------------------------------


def test_a_list_of_objects_is_read_as_the_same_lines_would_be(tmp_path):
    entries = [{"prompt": "one", "answer": 44, "split": "score"}, {"prompt": "two", "answer": " b", "id": "mine"}]
    (tmp_path / "t.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")
    listed = read_prompts([tmp_path / "t.json"], "json")
    lined = read_prompts([lines(tmp_path / "t.jsonl", *entries)], "jsonl")
    assert [(item.id, item.where) for item in listed] == [
        ("t.json#1", f"{tmp_path}/t.json: entry 1"), ("mine", f"{tmp_path}/t.json: entry 2")
    ]  # fmt: skip
    for one, other in zip(listed, lined, strict=True):
        assert (one.prompt, one.answer, one.question_id, one.split) == (
            other.prompt, other.answer, other.question_id, other.split
        )  # fmt: skip


def test_a_table_is_read_by_the_names_in_its_first_row(tmp_path):
    table = '\ufeffcategory,prompt,answer,split\r\nfruit,"a, ""b""\nc",44,\r\n,d,e,validate\r\n'
    (tmp_path / "t.csv").write_text(table, encoding="utf-8", newline="")
    one, two = read_prompts([tmp_path / "t.csv"], "csv")
    assert (one.prompt, one.answer, one.split, one.extra) == ('a, "b"\nc', "44", None, {"category": "fruit"})
    assert (two.prompt, two.answer, two.split, two.extra, two.where) == (
        "d", "e", "validate", {}, f"{tmp_path}/t.csv:4"
    )  # fmt: skip
    (tmp_path / "t.tsv").write_text("prompt\tanswer\na, b\tc\n", encoding="utf-8")
    assert [item.prompt for item in read_prompts([tmp_path / "t.tsv"], "csv")] == ["a, b"]


BAD_TABLES = [
    ("", ": no items; give a first row prompt,answer and one item per row"),
    ("prompt,answer\n", ": no items; give a first row prompt,answer and one item per row"),
    (
        "prompt;answer\na;b\n",
        ":1: the first row must name the columns prompt and answer, separated by commas; it holds 'prompt;answer'",
    ),
    ("prompt,prompt\na,b\n", ":1: the first row has two columns of the same name; rename one"),
    (
        "prompt,answer\na,b,c\n",
        ":2: has more cells than the first row; put texts with commas in double quotes",
    ),
    ("prompt,answer\na\n", ":2: answer must be text or a number, got null"),
    ("prompt,answer\na,\n", ":2: answer is empty; fill it in, or remove the entry"),
    ("prompt,target\na,b\n", ":2: answer is missing; rename the key 'target' to answer"),
    ('prompt,answer\n"a"b,c\n', ":2: is not valid CSV: ',' expected after '\"'; fix it"),
]


@pytest.mark.parametrize(("content", "message"), BAD_TABLES)
def test_a_mistake_in_a_table_is_told_with_file_and_line(content, message, tmp_path):
    (tmp_path / "t.csv").write_text(content, encoding="utf-8")
    with pytest.raises(HeadAtlasError) as error:
        read_prompts([tmp_path / "t.csv"], "csv")
    assert str(error.value) == f"{tmp_path}/t.csv{message}"


def test_a_mistake_in_a_list_is_told_with_file_and_entry(tmp_path):
    file = tmp_path / "t.json"
    for content, message in (
        ([{"prompt": "p", "answer": "a"}, 3], ": entry 2: must be a JSON object with prompt and answer"),
        ({"prompt": "p"}, ": must be a JSON list of objects with prompt and answer"),
        ([], ": no items; give a list of objects with prompt and answer"),
    ):
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(HeadAtlasError) as error:
            read_prompts([file], "json")
        assert str(error.value) == f"{file}{message}"


# --- other keys, and spaces ------------------------------------------------------------------------


def test_keys_without_a_meaning_here_are_kept(tmp_path):
    entry = {"prompt": "p", "answer": "a", "category": "x", "idx": 3, "question": "q", "meta": [1.5, {"n": None}]}
    file = lines(tmp_path / "t.jsonl", entry, {"prompt": "q", "answer": "a"})
    kept, bare = read_prompts([file], "jsonl")
    assert kept.extra == {"category": "x", "idx": 3, "question": "q", "meta": [1.5, {"n": None}]}
    assert bare.extra == {}
    task = read_task(settings_of(), [file])
    items = {item["prompt"]: item for item in items_content("t", task, 2, task.items)["items"]}
    assert items["p"]["extra"] == kept.extra
    assert "extra" not in items["q"]


def test_a_space_that_ends_a_prompt_goes_to_the_answer_and_is_counted_aloud(tmp_path, caplog):
    entries = [("France is ", "Paris"), ("Rome is  ", " in"), ("line\n", "b"), ("c", "d")]
    file = lines(tmp_path / "t.jsonl", *({"prompt": prompt, "answer": answer} for prompt, answer in entries))
    moved = {(item.prompt, item.answer) for item in read_task(settings_of(), [file]).items}
    assert moved == {("France is", " Paris"), ("Rome is", "   in"), ("line\n", "b"), ("c", "d")}
    assert caplog.messages == [
        f"{file}: 2 prompts end in a space; the space was moved to the front of the answer (join: auto)"
    ]
    for join in ("none", None):
        assert {(item.prompt, item.answer) for item in read_task(settings_of(join=join), [file]).items} == {*entries}
    (said,) = caplog.messages[1:]  # none of a chat template (null), where a turn stands between the two
    assert said.startswith(f"{file}: 2 prompts end in a space; the answer is tokenised without it")
