"""Texts that some settings need of every item."""

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.tasks.items import read_task
from task_files import lines, settings_of


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
            HeadAtlasError, match=rf"^tasks\.t: .*t\.jsonl:2: has no '{key}' \(a text\), which {setting} requires"
        ):
            read_task(settings_of(partners=[key]), [source])
    source = lines(tmp_path / "t.jsonl", whole, whole | {"prompt": "z"})
    assert len(read_task(settings_of(partners=[key], validate_fraction=0), [source]).items) == 2
