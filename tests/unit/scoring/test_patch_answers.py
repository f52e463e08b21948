"""Heads patched from other prompts: planted heads that carry the answer's token, or the work, by hand."""

import math

import numpy as np
import pytest
import torch
from families import PLANTED, planted_model
from headatlas.models.head_model import find_heads
from headatlas.scoring.patch_answers import patch_answers

OTHER = (0, 3)  # a head that does nothing
SCALE = 8.0
CLOSE = 1e-3  # what the epsilon of the norms (1e-6), left out below, does to 45 nats


def items(same_answer: list[int], counterfactual: list[int]) -> list[dict]:
    """Two items whose prompt is twice the token 3 and whose answer is 3, with these two other prompts."""
    return [
        {
            "id": str(index),
            "question_id": f"question{index // 2}",
            "prompt_ids": [3, 3],
            "answer_ids": [3],
            "counterfactual_ids": counterfactual,
            "same_answer_ids": same_answer,
        }
        for index in range(3)
    ]


def log_prob(shares: dict[int, float], token: int) -> float:
    """Of a token, where the planted head's average of the context holds these shares of tokens.

    Each norm divides by the root mean square of 32 dimensions. The head reads a token's 1 as the root of 32; the output
    layer reads the shares of that beside the 1 of the token that was read last.
    """
    read = {token: share * math.sqrt(32) for token, share in shares.items()}
    size = math.sqrt((1 + sum(value**2 for value in read.values())) / 32)
    logits = torch.zeros(8)
    for each, value in read.items():
        logits[each] = SCALE * value / size
    return float(logits.log_softmax(0)[token])


@pytest.mark.parametrize("engine", ["replay", "hooked"])
def test_a_head_that_carries_the_answer_s_token_does_the_same_from_another_question_of_the_same_answer(engine):
    """The other question is longer, but what the head brings is the answer's token all the same: an effect of 0."""
    model = find_heads(planted_model(SCALE))
    asked = items(same_answer=[3, 3, 3, 3], counterfactual=[5, 5])
    found = patch_answers(model, asked, [PLANTED, OTHER], 999, engine=engine)
    assert found.heads == [[*PLANTED], [*OTHER]]
    assert found.question.tolist() == [0, 0, 1]
    assert found.same_answer.shape == found.counterfactual.shape == (2, 3)
    assert np.abs(found.same_answer).max() == 0
    cost = log_prob({3: 1.0}, 3) - log_prob({5: 1.0}, 3)
    assert cost > 10
    np.testing.assert_allclose(found.counterfactual, [[cost] * 3, [0] * 3], atol=CLOSE)
    assert {kind: report["engine"] for kind, report in found.engine.items()} == {
        "counterfactual": engine,
        "same_answer": engine,
    }


@pytest.mark.parametrize("engine", ["replay", "hooked"])
def test_a_head_that_carries_the_work_has_an_effect_from_both_prompts(engine):
    """From a question that is made of other tokens, the head brings these, whatever is the right answer there."""
    model = find_heads(planted_model(SCALE))
    found = patch_answers(model, items(same_answer=[5, 6], counterfactual=[5, 5]), [PLANTED, OTHER], 999, engine=engine)
    clean = log_prob({3: 1.0}, 3)
    np.testing.assert_allclose(found.counterfactual[0], clean - log_prob({5: 1.0}, 3), atol=CLOSE)
    np.testing.assert_allclose(found.same_answer[0], clean - log_prob({5: 0.5, 6: 0.5}, 3), atol=CLOSE)
    assert found.same_answer[0, 0] > 5
    assert np.abs(found.same_answer[1]).max() == 0


def test_each_patch_is_counted():
    model, done = find_heads(planted_model(SCALE)), []
    patch_answers(model, items([3, 3], [5, 5]), [PLANTED], 999, done.append)
    assert sum(done) == 2 * 3 * 2  # both other prompts, three items, the clean model and the head
