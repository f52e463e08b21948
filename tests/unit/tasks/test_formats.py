"""All formats: how they are identified, and that whatever a file holds, only our own error is raised."""

import json
from functools import partial
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.cogqa import SKILLS, read_cogqa
from headatlas.tasks.formats import format_of
from headatlas.tasks.items import read_task
from headatlas.tasks.prompts import read_prompts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from task_files import question, settings_of


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


@pytest.mark.parametrize("read", [partial(read_prompts, form=form) for form in ("jsonl", "json", "csv")] + [read_cogqa])
def test_a_file_that_cannot_be_opened_is_told(read, tmp_path):
    with pytest.raises(HeadAtlasError, match=r"gone: cannot be read: No such file or directory$"):
        read([tmp_path / "gone"])
    with pytest.raises(HeadAtlasError, match=r": cannot be read: Is a directory$"):
        read([tmp_path])


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
