"""Traces, baselines and effects files against plain computations."""

import json

import numpy as np
import pytest
import torch
from families import plain_log_prob, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.files.effects import (
    clean_run,
    pool_baseline,
    read_baseline,
    score_outputs,
    trace_shape,
    write_effects,
)
from headatlas.files.tensor_file import tensor_file
from headatlas.models.batches import Batch, batches, collate, score_answers
from headatlas.models.head_model import find_heads
from headatlas.scoring.trace import trace_task
from safetensors.numpy import load_file

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2), (7, 1)]


@pytest.fixture(scope="module")
def model():
    return find_heads(random_model("llama"))


def items_of(seed, validate=(3,)):
    items = random_items(LENGTHS, seed)
    for row in validate:
        items[row]["split"] = "validate"
    items[4]["question_id"] = items[0]["question_id"]
    return items


def plain_outputs(model, item):
    """[layer, position, head, d_head] of one item, alone, by a hook of our own."""
    seen = {}
    handles = [
        attention.projection.register_forward_pre_hook(
            lambda _module, args, layer=layer: seen.__setitem__(layer, args[0][0])
        )
        for layer, attention in enumerate(model.attentions)
    ]
    with torch.no_grad():
        model.model(input_ids=torch.tensor([item["prompt_ids"] + item["answer_ids"][:-1]]))
    for handle in handles:
        handle.remove()
    return torch.stack([seen[layer].view(-1, model.n_heads, model.d_head) for layer in range(model.n_layers)])


def answers(targets: list[int], mask: list[bool], foil: int | None = None) -> Batch:
    """One item; only its answer matters."""
    nothing = torch.zeros(1, len(targets), dtype=torch.long)
    foils = None if foil is None else torch.tensor([foil])
    return Batch(torch.tensor([0]), nothing, nothing, nothing, torch.tensor([targets]), torch.tensor([mask]), foils)


def test_log_probability_by_hand():
    """Two answer tokens with probabilities 1/2 and 1/4 of the truth: mean log = -1.5 log 2; padding ignored."""
    logits = torch.log(torch.tensor([[[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [1.0, 0, 0, 0]]]) + 1e-30)
    score, _ = score_answers(logits, answers([1, 2, 3], [True, True, False]))
    assert float(score[0]) == pytest.approx(-1.5 * np.log(2), abs=1e-6)


def test_exact_match_wants_every_token_but_not_the_padding():
    logits = torch.eye(4)[None, [1, 2, 0]]
    assert bool(score_answers(logits, answers([1, 2, 3], [True, True, False]))[1][0])
    assert not bool(score_answers(logits, answers([1, 3, 3], [True, True, False]))[1][0])


def test_the_margin_by_hand():
    """log(0.6 / 0.1) at the last answer token, for the item and for each of its rows; earlier tokens do not count."""
    logits = torch.log(torch.tensor([[[0.9, 0.1, 0, 0], [0.1, 0.2, 0.6, 0.1]]]) + 1e-30)
    batch = answers([1, 2], [True, True], foil=3)
    score, right = score_answers(logits, batch)
    assert (float(score[0]), bool(right[0])) == (pytest.approx(np.log(6), abs=1e-6), True)
    assert score_answers(logits[:, 1:], batch)[0].equal(score)
    wrong = logits[:, :, [0, 1, 3, 2]]
    score, right = score_answers(torch.stack([logits, wrong], 1), batch)
    assert score[0].tolist() == pytest.approx([np.log(6), -np.log(6)], abs=1e-6)
    assert right[0].tolist() == [True, False]


def test_batches_hold_every_item_once_within_the_budget():
    items = random_items([(n, 1 + n % 3) for n in range(1, 40)])
    seen = []
    for batch in batches(items, 64):
        assert batch.input_ids.numel() <= 64 or len(batch) == 1
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(39))


@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_trace_equals_plain_passes(model, tmp_path, batch_tokens):
    items = items_of(0)
    trace_task(model, items, tmp_path / "trace.safetensors", batch_tokens)
    traced = load_file(tmp_path / "trace.safetensors")
    means = []
    for row, item in enumerate(items):
        with torch.no_grad():
            assert traced["score"][row] == pytest.approx(float(plain_log_prob(model.model, item)), abs=1e-5)
        z = plain_outputs(model, item)
        answers = z[:, len(item["prompt_ids"]) - 1 :]
        assert np.abs(traced["head_output"][row] - answers.mean(1).numpy()).max() < 1e-5
        if item["split"] == "score":
            means.append(z.mean(1))
    assert np.abs(traced["mean_all"] - torch.stack(means).mean(0).numpy()).max() < 1e-5
    assert traced["validate"].tolist() == [0, 0, 0, 1, 0]
    assert traced["question"].tolist() == [0, 1, 2, 3, 0]
    assert trace_shape(tmp_path / "trace.safetensors") == (3, 4, 8)


@pytest.fixture
def traces(model, tmp_path):
    paths = {}
    for seed, task in enumerate(("a", "b")):
        paths[task] = tmp_path / f"{task}.safetensors"
        trace_task(model, items_of(seed), paths[task], 4096)
    return paths


def test_pooled_baselines_are_means_over_the_score_items_of_all_tasks(model, traces, tmp_path):
    pool_baseline(traces, tmp_path / "pool.safetensors", pool_size=6, seed=0)
    score = [item for seed in (0, 1) for item in items_of(seed) if item["split"] == "score"]
    outputs = [plain_outputs(model, item) for item in score]
    at_answers = torch.stack([z[:, len(i["prompt_ids"]) - 1 :].mean(1) for z, i in zip(outputs, score, strict=True)])
    everywhere = torch.stack([z.mean(1) for z in outputs])

    def read(kind, positions, task="a"):
        settings = {"baseline": kind, "positions": positions, "task": task, "seed": 0}
        chosen = [item for item in items_of(0) if item["split"] == "score"]
        return read_baseline(settings, chosen, (3, 4, 8), traces[task], tmp_path / "pool.safetensors")

    assert np.abs(read("mean", "answer")[0] - at_answers.mean(0).numpy()).max() < 1e-5
    assert np.abs(read("mean", "all")[0] - everywhere.mean(0).numpy()).max() < 1e-5
    assert np.abs(read("task_mean", "answer")[0] - at_answers[:4].mean(0).numpy()).max() < 1e-5
    assert np.abs(read("task_mean", "all")[0] - everywhere[:4].mean(0).numpy()).max() < 1e-5
    assert not read("zero", "answer").any()
    resampled = read("resample", "answer")
    own = [item["question_id"] for item in score[:4]]
    for row in range(4):
        distance = np.abs(at_answers.numpy() - resampled[row]).max((1, 2, 3))
        source = int(distance.argmin())
        assert distance[source] < 1e-5
        assert not (source < 4 and score[source]["question_id"] == own[row])
    assert np.array_equal(resampled, read("resample", "answer"))


def test_probe_inputs_are_the_score_items_in_order(traces):
    outputs, labels, questions = score_outputs([traces["a"], traces["b"]])
    assert outputs.shape == (8, 3, 4, 8)
    assert labels.tolist() == [0] * 4 + [1] * 4
    assert questions == ["question0", "question1", "question2", "question0"] * 2
    question, correct, without_attention = clean_run(traces["a"])
    assert without_attention == []
    assert question.tolist() == [0, 1, 2, 0]
    assert correct.shape == (4,)


def test_effects_that_are_not_finite_are_refused(tmp_path):
    effect = np.zeros((2, 3, 4), np.float32)
    effect[1, 2, 3] = np.nan
    with pytest.raises(HeadAtlasError, match="layer 7, head 3 on item 1 is not finite"):
        write_effects(tmp_path / "x", effect, np.arange(2), np.ones(2), first_layer=5)
    assert not (tmp_path / "x").exists()


def test_streamed_file_is_what_the_library_reads(tmp_path):
    layout = {"a": ("float32", (3, 2)), "b": ("int64", (0, 4)), "c": ("uint8", (5,))}
    with tensor_file(tmp_path / "x.safetensors", layout, {"note": json.dumps(["é"])}) as arrays:
        arrays["a"][1] = [1.5, -2]
        arrays["c"][:] = 7
        assert not (tmp_path / "x.safetensors").exists()
    read = load_file(tmp_path / "x.safetensors")
    assert read["a"].tolist() == [[0, 0], [1.5, -2], [0, 0]]
    assert read["b"].shape == (0, 4)
    assert read["c"].tolist() == [7] * 5


def test_a_failed_stream_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), tensor_file(tmp_path / "x", {"a": ("float32", (3,))}) as arrays:
        arrays["b"][:] = 1
    assert list(tmp_path.iterdir()) == []


def test_collate_feeds_no_token_from_which_nothing_is_predicted():
    items = random_items([(4, 3)])
    batch = collate(items, [0])
    assert batch.input_ids[0].tolist() == items[0]["prompt_ids"] + items[0]["answer_ids"][:-1]
    assert batch.positions[0].tolist() == [3, 4, 5]
    assert batch.targets[0].tolist() == items[0]["answer_ids"]


def test_a_token_that_the_model_does_not_know_is_told(model, tmp_path):
    items = items_of(0)
    n_tokens = model.model.config.vocab_size
    items[2]["answer_ids"][-1] = n_tokens
    message = (
        f"item {items[2]['id']}: the tokenizer gives it the token {n_tokens}, but the model knows only {n_tokens};"
    )
    with pytest.raises(HeadAtlasError, match=message):
        trace_task(model, items, tmp_path / "t.safetensors", 100)
    assert list(tmp_path.iterdir()) == []
