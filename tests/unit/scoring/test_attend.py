"""Attention on the page's items: exactly the weights of transformers' own attention that are large enough."""

import numpy as np
import pytest
import torch
from families import random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.files import attention as stored
from headatlas.files.attention import FLOOR, FULL, MOST_ROWS, read_attention, write_attention
from headatlas.models.head_model import find_heads
from headatlas.scoring.attend import attend

LENGTHS = [(9, 3), (5, 1), (30, MOST_ROWS + 2), (5, 2)]  # tokens of prompt and answer
ITEMS = random_items(LENGTHS)
TEXTS = [[f"t{index}" for index in range(prompt + answer)] for prompt, answer in LENGTHS]


def attended(family="llama", items=ITEMS, texts=TEXTS, batch_tokens=999):
    return attend(find_heads(random_model(family), family), items, texts, batch_tokens)


def expected(family="llama") -> np.ndarray:
    """Rows (layer, head, row, position, weight) from one plain pass per item; the first `MOST_ROWS` of an answer."""
    model, rows, first = random_model(family, "eager"), [], 0
    for item in ITEMS:
        ids = torch.tensor([item["prompt_ids"] + item["answer_ids"][:-1]])
        with torch.no_grad():
            weights = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
        start, count = len(item["prompt_ids"]) - 1, min(len(item["answer_ids"]), MOST_ROWS)
        for layer, each in enumerate(weights):
            for head, query, key in np.ndindex(each.shape[1], count, ids.shape[1]):
                weight = float(each[0, head, start + query, key])
                if weight >= FLOOR:
                    rows.append((layer, head, first + query, key, weight))
        first += count
    return np.array(sorted(rows))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_kept_weights_are_those_of_transformers(family):
    found, known = attended(family), expected(family)
    assert found.counts.shape[2] == 3 + 1 + MOST_ROWS + 2
    place = known[:, :3].astype(int).T
    counts = np.zeros(found.counts.shape, int)
    np.add.at(counts, tuple(place), 1)
    np.testing.assert_array_equal(found.counts, counts)
    np.testing.assert_array_equal(found.positions, known[:, 3])
    np.testing.assert_allclose(found.weights / FULL, known[:, 4], atol=0.5 / FULL + 1e-5)


def test_the_size_of_a_pass_changes_nothing():
    for one, other in zip(attended()[:3], attended(batch_tokens=1)[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_items_say_which_tokens_are_the_answer_and_a_long_one_has_no_rows(monkeypatch):
    monkeypatch.setattr(stored, "LONGEST", 20)
    found = attended()
    assert [item["rows"] for item in found.items] == [3, 1, 0, 2]
    assert [item["start"] for item in found.items] == [9, 5, 30, 5]
    assert [item["tokens"] for item in found.items] == [TEXTS[0], TEXTS[1], [], TEXTS[3]]
    assert found.counts.shape[2] == 6


def test_nothing_but_long_items_leaves_nothing(monkeypatch):
    monkeypatch.setattr(stored, "LONGEST", 2)
    found = attended()
    assert (found.counts.size, len(found.positions), len(found.weights)) == (0, 0, 0)


def test_a_file_keeps_it_and_a_part_of_the_items_is_their_rows(tmp_path):
    found = attended()
    write_attention(tmp_path / "a.safetensors", found)
    again = read_attention(tmp_path / "a.safetensors")
    assert again.items == found.items
    kept = again.of_items([0, 3])
    assert kept.items == [found.items[0], found.items[3]]
    rows = [0, 1, 2, 3 + 1 + MOST_ROWS, 3 + 1 + MOST_ROWS + 1]
    for layer, head in np.ndindex(found.counts.shape[:2]):
        counts, positions, weights = kept.of_head(layer, head)
        whole = found.of_head(layer, head)
        ends = np.cumsum(whole[0])
        np.testing.assert_array_equal(counts, whole[0][rows])
        for values, all_values in ((positions, whole[1]), (weights, whole[2])):
            pieces = [all_values[ends[row] - whole[0][row] : ends[row]] for row in rows]
            np.testing.assert_array_equal(values, np.concatenate(pieces))


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"12345678")
    with pytest.raises(HeadAtlasError, match=r"a\.safetensors: not a file of attention weights .*run again"):
        read_attention(tmp_path / "a.safetensors")
