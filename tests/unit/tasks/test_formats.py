"""Task files: what is read from them, and every mistake's message."""

import json
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks import formats
from headatlas.tasks.formats import SKILLS, cogqa_items, format_of, read_cogqa, read_prompts
from headatlas.tasks.items import items_content, read_task
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_files import cogqa_file, lines, question, settings_of

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
    (b"", ": no items; give one JSON object with prompt and answer a line"),
    (b"\n \n", ": no items; give one JSON object with prompt and answer a line"),
    (
        GOOD + b"{",
        ":2: is not valid JSON: Expecting property name enclosed in double quotes (column 2); mend it",
    ),
    (GOOD + b'{"prompt": "x"} {', ":2: is not valid JSON: Extra data (column 17); mend it"),
    (GOOD + b'{"prompt": "\xff", "answer": "a"}', ":2: is not UTF-8 text (byte 12); save the file as UTF-8"),
    (GOOD.decode().encode("utf-16"), ":1: is not UTF-8 text (byte 0); save the file as UTF-8"),
    (
        b"[1]",
        ":1: is a JSON list, not an object; set format: json for a list of prompt and answer, cogqa for CogQA files",
    ),
    (b"3", ":1: must be a JSON object with prompt, answer"),
    (b'"x"', ":1: must be a JSON object with prompt, answer"),
    (b'{"prompt": "p"}', ":1: answer is missing; every entry needs prompt, answer"),
    (b'{"promt": "p", "answer": "a"}', ":1: unknown key 'promt'; did you mean 'prompt'?"),
    (b'{"prompt": "p", "answer": "a", "splt": "score"}', ":1: unknown key 'splt'; did you mean 'split'?"),
    (b'{"prompt": "p", "x": "a"}', ":1: answer is missing; every entry needs prompt, answer"),
    (
        b'{"question": "p", "target": "a"}',
        ":1: prompt and answer missing; rename the key 'question' to prompt and 'target' to answer",
    ),
    (b'{"prompt": "p", "Label": "a"}', ":1: answer missing; rename the key 'Label' to answer"),
    (b'{"prompt": 5, "answer": "a"}', ":1: prompt must be text, got a number"),
    (b'{"prompt": "p", "answer": null}', ":1: answer must be text or a number, got null"),
    (b'{"prompt": "p", "answer": true}', ":1: answer must be text or a number, got true or false"),
    (b'{"prompt": "p", "answer": ["a"]}', ":1: answer must be text or a number, got a list"),
    (b'{"prompt": "p", "answer": {}}', ":1: answer must be text or a number, got an object"),
    (b'{"prompt": " \\n", "answer": "a"}', ":1: prompt is empty; fill it in, or take the entry out"),
    (b'{"prompt": "p", "answer": ""}', ":1: answer is empty; fill it in, or take the entry out"),
    (
        b'{"prompt": "p", "answer": NaN}',
        ":1: NaN is not a number that JSON knows; give a number, or text in quotes",
    ),
    (
        b'{"prompt": "p", "answer": -Infinity}',
        ":1: -Infinity is not a number that JSON knows; give a number, or text in quotes",
    ),
    (b'{"prompt": "p", "prompt": "q", "answer": "a"}', ":1: names the key 'prompt' twice; take one out"),
    (
        b'{"prompt": "p", "answer": "\\ud83d"}',
        ":1: answer has half a character (a lone \\ud800 to \\udfff); mend it",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": "valid"}',
        ":1: split must be score or validate, got 'valid'",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": 1}',
        ":1: split must be score or validate, got '1'",
    ),
    (b'{"prompt": "p", "answer": "a", "id": ""}', ":1: id is empty; fill it in, or take the entry out"),
    (
        b'{"prompt": "p", "answer": "a", "question_id": []}',
        ":1: question_id must be text or a number, got a list",
    ),
    (GOOD + GOOD, ":2: repeats prompt and answer of {file}:1; take one out"),
    (
        b'{"prompt": "p", "answer": "a", "id": 3}\n{"prompt": "q", "answer": "a", "id": "3"}',
        ":2: repeats the id of {file}:1; take one out",
    ),
    (
        b'{"prompt": "p", "answer": "a", "split": "score"}\n{"prompt": "p", "answer": "b", "split": "validate"}',
        ":2: split validate, but {file}:1 of the same question '148de9c5a7a4' has split score; a "
        "question goes "
        "into one split",
    ),
    (b"[" * 100_000, ":1: is nested too deeply to be a task's file"),
    (
        b'{"prompt": "p", "answer": "a", "x": ' + b"[" * 20 + b"]" * 20 + b"}",
        ":1: is nested too deeply to be a task's file",
    ),
    (
        b'{"prompt": "p", "answer": "a", "x": ["\\ud83d"]}',
        ":1: has half a character (a lone \\ud800 to \\udfff); mend it",
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
    ("", ": no items; give a first row with prompt,answer and one item a row"),
    ("prompt,answer\n", ": no items; give a first row with prompt,answer and one item a row"),
    (
        "prompt;answer\na;b\n",
        ":1: the first row must name the columns prompt and answer, with commas between; it holds 'prompt;answer'",
    ),
    ("prompt,prompt\na,b\n", ":1: the first row gives two columns one name; rename one"),
    (
        "prompt,answer\na,b,c\n",
        ":2: has more cells than the first row; put texts with commas in double quotes",
    ),
    ("prompt,answer\na\n", ":2: answer must be text or a number, got null"),
    ("prompt,answer\na,\n", ":2: answer is empty; fill it in, or take the entry out"),
    ("prompt,target\na,b\n", ":2: answer missing; rename the key 'target' to answer"),
    ('prompt,answer\n"a"b,c\n', ":2: is not valid CSV: ',' expected after '\"'; mend it"),
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
        ([{"prompt": "p", "answer": "a"}, 3], ": entry 2: must be a JSON object with prompt, answer"),
        ({"prompt": "p"}, ": must be a JSON list of objects with prompt and answer"),
        ([], ": no items; give a list of objects with prompt and answer"),
    ):
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(HeadAtlasError) as error:
            read_prompts([file], "json")
        assert str(error.value) == f"{file}{message}"


def test_the_format_is_told_by_the_name_and_of_json_by_the_first_keys(tmp_path):
    assert [format_of(name) for name in ("a.JSONL", "a.csv", "a.tsv", "a.txt")] == ["jsonl", "csv", "csv", None]
    for content, form in (
        ('[{"id": 1, "prompt": "is \\"generated\\": x", "answer": "y"}]', "json"),
        (json.dumps([question('say "prompt": now', ("S", "A", "Retrieval"))]), "cogqa"),
        ("[]", "cogqa"),
    ):
        (tmp_path / "a.json").write_text(content, encoding="utf-8")
        assert format_of(tmp_path / "a.json") == form
    assert format_of(tmp_path / "gone.json") == "cogqa"


# --- what stands beside and between -----------------------------------------------------------------


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


@pytest.mark.parametrize("read", [partial(read_prompts, form=form) for form in ("jsonl", "json", "csv")] + [read_cogqa])
def test_a_file_that_cannot_be_opened_is_told(read, tmp_path):
    with pytest.raises(HeadAtlasError, match=r"gone: cannot be read: No such file or directory$"):
        read([tmp_path / "gone"])
    with pytest.raises(HeadAtlasError, match=r": cannot be read: Is a directory$"):
        read([tmp_path])


# --- CogQA ------------------------------------------------------------------------------------------

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
    assert "2 subquestions are labelled 'Induction', which is no task; left out" in caplog.text


ONE = question("Q", ("S", "A", "Retrieval"))
BAD_COGQA = [
    ([], ": no questions; is the file cut short?"),
    ({}, ": must be a JSON list of questions; for JSON lines set format: jsonl"),
    ([3], ": question 1: must be a JSON object with question, generated"),
    ([ONE, ONE], ": question 2: repeats the question of c.json: question 1; take one out"),
    ([ONE, {"generated": []}], ": question 2: question is missing; every entry needs question, generated"),
    ([ONE | {"question": ""}], ": question 1: question is empty; fill it in, or take the entry out"),
    ([ONE | {"question": 3}], ": question 1: question must be text, got a number"),
    ([ONE | {"generated": []}], ": question 1: generated must be a list of subquestions, at least one"),
    ([ONE | {"generated": "x"}], ": question 1: generated must be a list of subquestions, at least one"),
    ([ONE | {"generatd": []}], ": question 1: unknown key 'generatd'; did you mean 'generated'?"),
    (
        [ONE | {"generated": ["x"]}],
        ": question 1, subquestion 1: must be a JSON object with subquestion, answer, cognitive_skill",
    ),
    (
        [question("Q", ("S", " ", "Retrieval"))],
        ": question 1, subquestion 1: answer is empty; fill it in, or take the entry out",
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
        ": NaN is not a number that JSON knows; give a number, or text in quotes",
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
    with pytest.raises(HeadAtlasError, match=r"c\.json:3: is not valid JSON: Expecting value \(column 1\); mend it"):
        read_cogqa([file])
    file.write_bytes(b"[\xff]")
    with pytest.raises(HeadAtlasError, match=r"c\.json: is not UTF-8 text \(byte 1\)"):
        read_cogqa([file])
    with pytest.raises(HeadAtlasError, match=r"no subquestion is labelled 'Inference'; there are 'Retrieval'$"):
        cogqa_items(read_cogqa([cogqa_file(file, ONE)]), "Inference", "all")


def test_a_cogqa_file_larger_than_memory_allows_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "LARGEST_FILE", 50)
    with pytest.raises(HeadAtlasError, match="is larger than 50 bytes; is this a task's file"):
        read_cogqa([cogqa_file(tmp_path / "c.json", ONE)])


# --- fuzzing ----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
LINE = st.fixed_dictionaries(
    {"prompt": st.text(max_size=5) | JSON, "answer": st.text(max_size=5) | st.floats() | JSON},
    optional={"id": JSON, "question_id": JSON, "split": st.sampled_from(["score", "validate", 1]), "x": JSON},
)
STEP = st.fixed_dictionaries(
    {"subquestion": st.text(max_size=5) | JSON, "answer": st.text(max_size=5) | JSON},
    optional={"cognitive_skill": st.sampled_from([*SKILLS.values(), "Other"]) | JSON, "y": JSON},
)
QUESTION = st.fixed_dictionaries(
    {"question": st.text(max_size=5) | JSON, "generated": st.lists(STEP | JSON, max_size=3) | JSON},
    optional={"answer": JSON},
)


def read_or_complain(file: Path, **changes) -> None:
    """Read a task; the one error that may come out is the project's own, in one line that names the file."""
    try:
        task = read_task(settings_of(**changes), [file])
    except HeadAtlasError as error:
        complaint = str(error)
    else:
        complaint = ""
    assert "\n" not in complaint
    if complaint:
        return
    assert {item.split for item in task.items} == {"score", "validate"}
    assert all(item.prompt.strip() and item.answer.strip() for item in task.items)
    json.dumps([vars(item) for item in task.items], ensure_ascii=False).encode()


FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(content=st.binary(max_size=80) | st.lists(LINE | JSON, max_size=5))
def test_whatever_a_jsonl_file_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    file = tmp_path / "t.jsonl"
    text = content if isinstance(content, bytes) else "\n".join(map(json.dumps, content)).encode()
    file.write_bytes(text)
    read_or_complain(file)


@FUZZ
@given(content=st.binary(max_size=80) | st.lists(LINE | JSON, max_size=5) | JSON)
def test_whatever_a_list_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    file = tmp_path / "t.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    read_or_complain(file, format="json")


@FUZZ
@given(content=st.binary(max_size=80) | st.text(',"prompt\r\n ;ä', max_size=60))
def test_whatever_a_table_holds_only_the_projects_own_error_comes_out(tmp_path, content):
    file = tmp_path / "t.csv"
    file.write_bytes(b"prompt,answer\n" + (content if isinstance(content, bytes) else content.encode()))
    read_or_complain(file, format="csv")


@FUZZ
@given(
    content=st.binary(max_size=80) | st.lists(QUESTION | JSON, max_size=4) | JSON,
    context=st.sampled_from(["all", "none"]),
)
def test_whatever_a_cogqa_file_holds_only_the_projects_own_error_comes_out(tmp_path, content, context):
    file = tmp_path / "c.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    read_or_complain(file, format="cogqa", skill="Retrieval", context=context)
