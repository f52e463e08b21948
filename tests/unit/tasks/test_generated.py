"""Where written answers end, and the items that they become."""

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.generated import StopRule, Written, answered, judged, with_room, written_content

PIECES = [" Paris", ".", ".\n", "\n", " Q", ":", "", "é"]
END = 6  # a token without text


def decode(ids: list[int]) -> str:
    return "".join(PIECES[token] for token in ids)


RULE = StopRule(decode, frozenset([END]), ["\n", " Q:"])


@pytest.mark.parametrize(
    ("ids", "text", "tokens", "end"),
    [
        ([0, 1, END], " Paris.", [0, 1], "end of sequence"),
        ([0, 1, 3], " Paris.", [0, 1], "stop"),
        ([0, 2], " Paris.", [0], "stop"),  # the stop begins inside a token
        ([0, 4, 5], " Paris", [0], "stop"),  # or spans two
        ([0, 4], " Paris Q", [0, 4], "length"),
        ([3], "", [], "stop"),
        ([END], "", [], "end of sequence"),
        ([7, 7], "éé", [7, 7], "length"),
    ],
)
def test_where_an_answer_ends(ids, text, tokens, end):
    assert RULE.answer(ids) == Written(text, tokens, end)
    assert [RULE.over(ids[:n]) for n in range(1, len(ids) + 1)] == [False] * (len(ids) - 1) + [end != "length"]


def test_a_character_whose_bytes_are_spread_over_tokens_stays_whole():
    halves = {(): "", (0,): "�", (0, 1): "é", (0, 1, 2): "é\n"}
    rule = StopRule(lambda ids: halves[tuple(ids)], frozenset(), ["\n"])
    assert rule.answer([0, 1, 2]) == Written("é", [0, 1], "stop")


def item(name: str, split: str, answer: str) -> dict:
    known = {"id": name, "question_id": name, "split": split, "prompt": "?", "answer": answer}
    return known | {"prompt_ids": [1, 2], "answer_ids": [9]}


def content() -> dict:
    items = [item("a", "score", "Paris"), item("b", "score", "Rome"), item("c", "validate", "Bern")]
    counts = {"read": 4, "other_label": 0, "too_long": 1, "not_sampled": 0, "score": 2, "validate": 1}
    return {"task": "capitals", "counts": counts, "items": items}


def test_room_for_an_answer_ends_at_the_context():
    asked = [{"prompt_ids": [1] * 5}, {"prompt_ids": [2] * 8}, {"prompt_ids": [3] * 9}]
    for longest, room in ((None, [4, 4, 4]), (12, [4, 4, 3]), (10, [4, 2, 1])):
        found = with_room(asked, 4, longest)
        assert [len(item["answer_ids"]) for item in found] == room
        assert [item["prompt_ids"] for item in found] == [item["prompt_ids"] for item in asked]


def test_items_take_the_answers_of_the_model_and_keep_the_references(caplog):
    asked = content()
    texts = [Written(" paris.", [3, 4], "stop"), Written("", [], "stop"), Written(" Oslo", [5], "length")]
    written = written_content(asked, texts)
    assert written["counts"] == {"end of sequence": 0, "stop": 2, "length": 1}
    found = judged(asked, written, "exact")
    assert found["counts"] == {"correct": 1, "empty": 1}
    assert [(one["id"], one["reference"], one["text"], one["correct"]) for one in found["items"]] == [
        ("a", "Paris", " paris.", True),
        ("b", "Rome", "", False),
        ("c", "Bern", " Oslo", False),
    ]
    items = answered(asked, found)
    assert items["counts"] == asked["counts"] | {"score": 1, "empty": 1}
    first = item("a", "score", " paris.") | {"answer_ids": [3, 4], "reference": "Paris", "right": True}
    second = item("c", "validate", " Oslo") | {"answer_ids": [5], "reference": "Bern", "right": False}
    assert items["items"] == [first, second]
    assert "1 of 3 items are left out: the model wrote no answer to them" in caplog.text


def test_a_split_without_answers_stops_the_run():
    asked = content()
    texts = [Written(" Paris", [3], "stop"), Written(" Rome", [4], "stop"), Written(" ", [5], "stop")]
    with pytest.raises(HeadAtlasError) as error:
        answered(asked, judged(asked, written_content(asked, texts), "exact"))
    assert str(error.value) == (
        "task capitals: the model wrote no answer to any of the 1 validate items (each text is empty up to its end); "
        "change generation.stop or the prompts, or set answers: reference"
    )
