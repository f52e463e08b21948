"""Sets of heads knocked out together: planted head, and one plain hooked pass per set and item."""

import math

import numpy as np
import pytest
import torch
from families import (
    FAMILIES,
    PLANTED,
    plain_scores,
    planted_items,
    planted_model,
    random_items,
    random_model,
)
from headatlas.models.head_model import find_heads
from headatlas.scoring.knock_out import distinct, knock_out

LENGTHS = [(9, 3), (5, 1), (12, 2)]
EVERY = [(layer, head) for layer in range(3) for head in range(4)]
SETS = [[], [(0, 1)], [(1, 0), (1, 3), (2, 2)], [(0, 0), (2, 1)], [(2, 3)], [(1, head) for head in range(4)]]
SETS += [EVERY, [head for head in EVERY if head != (1, 2)], [(2, 1), (0, 0)]]  # as where few heads are kept; one twice


@pytest.mark.parametrize("way", ["replay", "hooked"])
@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "bloom", "falcon", "mixtral"])
def test_equals_one_hooked_pass_per_set_and_item(family, positions, way):
    assert family in FAMILIES
    model = find_heads(random_model(family), family)
    items = random_items(LENGTHS)
    with torch.no_grad():  # make one item right, so that exact match takes both values
        ids = torch.tensor([items[1]["prompt_ids"]])
        items[1]["answer_ids"] = [int(model.model(input_ids=ids).logits[0, -1].argmax())]
    baseline = np.random.default_rng(3).normal(scale=0.2, size=(1, 3, 4, model.d_head)).astype(np.float32)
    log_prob, correct, _ = knock_out(model, items, SETS, baseline, positions, 200, engine=way)
    for row, heads in enumerate(SETS):
        for column, item in enumerate(items):
            expected = plain_scores(model, item, heads, baseline, positions)
            assert abs(log_prob[row, column] - expected[0]) < 1e-5, (heads, column)
            assert correct[row, column] == expected[1], (heads, column)
    assert correct[0].tolist() == [0, 1, 0]


@pytest.mark.parametrize("way", ["replay", "hooked"])
def test_only_sets_with_the_planted_head_matter(way):
    model = find_heads(planted_model())
    items = planted_items()
    others = [head for head in EVERY if head != PLANTED]
    zero = np.zeros((1, 3, 4, 8), np.float32)
    log_prob, correct, _ = knock_out(
        model, items, [[], others, [PLANTED], [*others, PLANTED]], zero, "answer", 999, engine=way
    )
    assert correct[0].all()
    assert np.allclose(log_prob[0], log_prob[1], atol=1e-6)
    assert np.allclose(log_prob[2:], -math.log(8), atol=1e-6)


@pytest.mark.parametrize("way", ["replay", "hooked"])
def test_an_answer_that_the_model_wrote_counts_if_it_is_right_and_stays_the_same(way):
    """Without the planted head all logits are equal, and the first token wins: only the answer of that token stays."""
    model, zero = find_heads(planted_model()), np.zeros((1, 3, 4, 8), np.float32)
    items = [item | {"right": row % 2 == 0} for row, item in enumerate(planted_items())]
    _, correct, _ = knock_out(model, items, [[], [PLANTED]], zero, "answer", 999, engine=way)
    assert correct[0].tolist() == [1, 0, 1, 0, 1, 0, 1, 0]
    assert correct[1].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_equal_sets_are_run_once():
    model, items = find_heads(planted_model()), planted_items()
    sets = [[[1, 2], [0, 1]], [], [(0, 1), (1, 2)], [(2, 0)], []]
    assert distinct(sets) == ([[], [(0, 1), (1, 2)], [(2, 0)]], [1, 0, 1, 2, 0])
    done = []
    zero = np.zeros((1, 3, 4, 8), np.float32)
    score, correct, _ = knock_out(model, items, sets, zero, "answer", 999, done.append, "replay")
    assert sum(done) == 3 * len(items)
    assert (score[0] == score[2]).all()
    assert (score[1] == score[4]).all()
    assert score.shape == correct.shape == (5, len(items))
    assert correct[1].all()
    assert np.allclose(score[0], -math.log(8), atol=1e-6)
