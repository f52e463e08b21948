"""Role scores of heads that are planted to do exactly one thing, and the tokens that an item says to look at."""

import math

import numpy as np
import pytest
import torch
from families import planted_items, planted_model, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.files.roles import OF_ITEMS, SCORES, read_roles, write_roles
from headatlas.models.head_model import find_heads
from headatlas.scoring.roles import (
    answer_scores,
    copied,
    copy_places,
    describe_heads,
    needed,
    pattern_scores,
    random_sequences,
)
from sweep_families import tiny_model

LENGTH = 6


def attending(place) -> torch.Tensor:
    """[query, key]: all weight of each query on `place(query)`, over a sequence of 6 tokens and its repeat."""
    weights = torch.zeros(2 * LENGTH, 2 * LENGTH)
    for query in range(2 * LENGTH):
        weights[query, max(0, place(query))] = 1
    return weights


PLANTED = {
    "previous_token": attending(lambda query: query - 1),
    "induction": attending(lambda query: query - LENGTH + 1),
    "duplicate_token": attending(lambda query: query - LENGTH),
    "sink": attending(lambda _query: 0),
}


def test_each_pattern_has_its_score_alone():
    """Heads that look at the token before, behind the last occurrence, at it, and at the start: 1 and 0, entropy 0."""
    queries = torch.arange(LENGTH + 1, 2 * LENGTH)
    weights = torch.stack([weights[queries] for weights in PLANTED.values()])[None]
    found = dict(zip(SCORES, pattern_scores(weights, queries, LENGTH), strict=False))
    for index, name in enumerate(PLANTED):
        assert found[name][0].tolist() == [float(index == head) for head in range(4)]
    assert found["entropy"][0].tolist() == [0, 0, 0, 0]


def test_uniform_attention_has_the_entropy_of_its_length():
    queries = torch.arange(LENGTH + 1, 2 * LENGTH)
    weights = torch.ones(2 * LENGTH, 2 * LENGTH).tril()
    weights = (weights / weights.sum(-1, keepdim=True))[queries][None, None]
    *places, entropy = pattern_scores(weights, queries, LENGTH)
    share = np.mean([1 / (query + 1) for query in queries.tolist()])
    assert [float(place) for place in places] == pytest.approx([share] * 4)
    assert float(entropy) == pytest.approx(np.mean([math.log(query + 1) for query in queries.tolist()]))


def test_copying_is_the_share_of_tokens_raised_most():
    """Head 0 writes what reads each token, head 1 what reads the next token, head 2 the opposite of its own."""
    readers = torch.eye(5)[None]
    outputs = torch.stack([torch.eye(5), torch.eye(5).roll(1, 1), -torch.eye(5)], dim=1)[
        None
    ]  # [1, token, head, hidden]
    assert copied(outputs, readers).tolist() == [1, 0, 0]


@pytest.mark.parametrize("groups", [4, 2])
def test_the_planted_head_copies_and_the_others_do_not(groups):
    """Its values are the tokens, and it writes them where the output reads. The others write nothing: a tie."""
    model = find_heads(planted_model(groups=groups))
    roles = describe_heads(model, {"planted": planted_items()}, 0, 512)
    copying = roles.sequences["copying"]
    assert copying[1, 2] == 1
    others = np.delete(copying.ravel(), 6)
    assert others == pytest.approx(np.full(11, 1 / 8))  # the first of 8 equal tokens is its own once
    direct = roles.tasks["planted"].scores["direct"]
    assert (direct[:, 1, 2] > 1).all()
    assert not np.delete(direct.reshape(8, -1), 6, axis=1).any()


def test_attention_to_everything_on_the_planted_model():
    """Its attention is uniform, on sequences of 8 tokens and their repeat: values worked out by hand."""
    roles = describe_heads(find_heads(planted_model()), {"planted": planted_items()}, 0, 512)
    share = np.mean([1 / (query + 1) for query in range(9, 16)])
    for name in ("previous_token", "induction", "duplicate_token", "sink"):
        assert roles.sequences[name] == pytest.approx(np.full((3, 4), share))
    assert roles.about["sequences"] == {"count": 20, "length": 8, "seed": 0, "prefix": []}
    # Item 2 has five tokens of context and three answer tokens, all the same: queries 4, 5, 6.
    sink = roles.tasks["planted"].scores["sink"][2]
    assert sink == pytest.approx(np.full((3, 4), np.mean([1 / 5, 1 / 6, 1 / 7])))


def test_scores_at_answer_positions_by_hand():
    """Two answer tokens of an item, one of another; three heads."""
    weights = torch.tensor(
        [
            [
                [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]],
                [[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]],
                [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]],
            ],
            [
                [[0.0, 0.1, 0.9], [0.0, 0.1, 0.9]],
                [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
                [[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]],
            ],
        ]
    )
    mask = torch.tensor([[True, True], [True, False]])
    copy = torch.zeros(2, 2, 3, dtype=torch.bool)
    copy[0, 0, 0] = copy[0, 1, 1] = True
    span = torch.tensor([[False, False, False], [False, True, True]])
    found = answer_scores(weights, mask, copy, span)
    assert found["retrieval_score"][0].tolist() == [1, 0, 0.5]
    assert found["retrieval_score"][1].isnan().all()
    assert found["span_mass"][0].isnan().all()
    torch.testing.assert_close(found["span_mass"][1], torch.tensor([1.0, 0.0, 0.8]))
    torch.testing.assert_close(found["sink"], torch.tensor([[0.4, 0.35, 0.5], [0, 1, 0.2]]))
    assert found["entropy"][1, 1] == 0
    assert float(found["entropy"][1, 2]) == pytest.approx(-sum(p * math.log(p) for p in (0.2, 0.5, 0.3)))


def test_where_an_answer_can_be_copied_from():
    item = {"prompt_ids": [5, 6, 9, 5, 6, 8], "answer_ids": [5, 6]}
    assert copy_places(item) == [0, 3]
    assert needed(item) == []
    changed = item | {"counterfactual_ids": [5, 6, 9, 5, 7, 8]}
    assert needed(changed) == [4]
    assert copy_places(changed) == [3]  # the first occurrence stands in the counterfactual, too
    longer = item | {"counterfactual_ids": [5, 6, 9, 1, 2, 3, 8]}
    assert needed(longer) == [3, 4]
    assert copy_places(item | {"answer_ids": [8, 5]}) == []


def test_random_sequences():
    items = [{"prompt_ids": [1, 5, 6], "answer_ids": [4]}, {"prompt_ids": [1, 7], "answer_ids": [4]}]
    model = find_heads(random_model("llama"))
    made, about = random_sequences(model, items, 3)
    assert about == {"count": 20, "length": 31, "seed": 3, "prefix": [1]}  # 64 positions, 97 tokens
    for item in made:
        first, *tokens = item["prompt_ids"]
        assert first == 1
        assert tokens[:31] == tokens[31:]
        assert len(set(tokens)) == 31
    assert len({tuple(item["prompt_ids"]) for item in made}) == 20
    assert random_sequences(model, items, 3)[0] == made
    assert random_sequences(model, items, 4)[0] != made
    model.model.config.max_position_embeddings = 7
    with pytest.raises(HeadAtlasError, match="7 positions and 97 tokens leave no room for 4 random tokens repeated"):
        random_sequences(model, items, 3)


def test_batches_change_nothing_and_the_file_keeps_everything(tmp_path):
    items = random_items([(9, 3), (5, 1), (12, 2), (5, 2)])
    items[1] |= {"counterfactual_ids": [*items[1]["prompt_ids"][:-1], 3]}
    model = find_heads(random_model("gemma2"))
    roles, single = (describe_heads(model, {"a": items, "b": items[:2]}, 0, tokens) for tokens in (8192, 1))
    write_roles(tmp_path / "roles.safetensors", roles)
    read = read_roles(tmp_path / "roles.safetensors")
    assert read.about == roles.about | {"tasks": ["a", "b"]}
    for name in SCORES:
        assert read.sequences[name] == pytest.approx(single.sequences[name], abs=1e-5)
    for name in OF_ITEMS:
        assert read.tasks["a"].scores[name] == pytest.approx(single.tasks["a"].scores[name], abs=1e-5, nan_ok=True)
        assert read.tasks["b"].scores[name] == pytest.approx(read.tasks["a"].scores[name][:2], abs=1e-5, nan_ok=True)
    assert np.isfinite(read.tasks["a"].scores["span_mass"][1]).all()
    assert (read.tokens["promoted"] == single.tokens["promoted"]).all()
    assert read.tasks["a"].question.tolist() == [0, 1, 2, 3]


def test_a_stream_that_is_not_known_leaves_only_patterns(monkeypatch):
    model = random_model("llama")
    layer = model.model.layers[1]
    own = layer.forward
    monkeypatch.setattr(layer, "forward", lambda hidden, **kwargs: own(hidden, **kwargs) + 0.1 * hidden)
    roles = describe_heads(find_heads(model), {"a": random_items([(9, 3), (5, 1)])}, 0, 512)
    assert roles.about["unknown"].startswith("what a layer adds is not its attention's output")
    assert np.isnan(roles.sequences["copying"]).all()
    assert np.isnan(roles.tasks["a"].scores["direct"]).all()
    assert np.isfinite(roles.sequences["induction"]).all()
    assert (roles.tokens["promoted"] == -1).all()


def test_layers_without_attention_have_no_scores(tmp_path):
    """LFM2: convolutions in layers 0 and 2. With what these add, direct effects add up (each pass checks that)."""
    roles = describe_heads(find_heads(tiny_model("lfm2")), {"a": random_items([(9, 3), (5, 1)])}, 0, 512)
    write_roles(tmp_path / "roles.safetensors", roles)
    for scores in (*roles.sequences.values(), roles.tasks["a"].scores["direct"][0]):
        assert np.isnan(scores[[0, 2]]).all()
        assert np.isfinite(scores[[1, 3]]).all()
    assert (roles.tokens["promoted"] < 0).any(axis=(1, 2)).tolist() == [True, False, True, False]


def test_a_score_that_is_not_finite_is_refused(tmp_path):
    roles = describe_heads(find_heads(planted_model()), {"a": planted_items()}, 0, 512)
    roles.tasks["a"].scores["direct"][3, 1, 1] = np.nan
    with pytest.raises(HeadAtlasError, match="the scores of direct on a are not finite"):
        write_roles(tmp_path / "roles.safetensors", roles)
