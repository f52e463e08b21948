"""Counts of work, against the calls of a model's layers while the methods run."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from families import random_items, random_model
from headatlas.models.generation import write_greedily
from headatlas.models.head_model import PROBE_TOKENS, find_heads
from headatlas.models.replacement import PromptBaseline, partners
from headatlas.models.replay import replay_length
from headatlas.models.work import Work, edited_rows, whole_pass
from headatlas.scoring.ablate_groups import ablate_groups
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attend import attend
from headatlas.scoring.attribution import integrate, path_gains, path_points
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.roles import describe_heads
from headatlas.scoring.trace import trace_task
from headatlas.scoring.work import (
    ablation_work,
    attention_work,
    expected_entry,
    generation_work,
    group_entries,
    integration_work,
    knock_out_work,
    padding_work,
    roles_work,
    trace_work,
)

LAYERS, HEADS, LENGTH, ANSWER = 3, 4, 11, 3
ZERO = np.zeros((1, LAYERS, HEADS, 8), np.float32)


def items(n: int = 5) -> list[dict]:
    """Items of one length, so that batches have no padding, with another prompt of the same length."""
    found = random_items([(LENGTH + 1 - ANSWER, ANSWER)] * n)
    return [item | {"counterfactual_ids": item["prompt_ids"][::-1]} for item in found]


@contextmanager
def counted(model):
    """Layer positions that the model computes while open: forward, and backward through a layer's output."""
    found = {"forward": 0, "backward": 0}

    def hook(module, _args, output):
        if "forward" in vars(module):  # replaced: the output layer alone is run
            return
        hidden = output[0] if isinstance(output, tuple) else output
        size = hidden.shape[:-1].numel()
        found["forward"] += size
        if hidden.requires_grad:
            hidden.register_hook(lambda _slope: found.update(backward=found["backward"] + size))

    with ExitStack() as stack:
        for attention in model.attentions:
            stack.callback(attention.layer.register_forward_hook(hook).remove)
        yield found


@pytest.fixture(scope="module")
def model():
    found = find_heads(random_model("llama"))
    assert found.cache_name  # found by a pass over one token, which would count once
    return found


def test_work_by_hand():
    item = items(1)[0]
    assert whole_pass(item, LAYERS, logits=2) == Work(whole=33, logits=2, context=363)
    assert whole_pass(item, LAYERS, length=20).whole == 60
    assert edited_rows(item, 5, 7, "answer") == Work(edited=21, logits=15, context=231)
    assert edited_rows(item, 5, 7, "all") == Work(edited=77, logits=15, context=847)
    assert edited_rows(item | {"foil_id": 1}, 5, 7, "answer").logits == 5
    assert (Work(1, 2, 3, 4) + Work(1, 1, 1, 1)) * 2 == Work(4, 6, 8, 10)
    assert Work(1, 2).layers == 3


def test_a_trace_passes_forward_backward_and_over_the_other_prompt(model, tmp_path):
    tasks = [item | {"split": "validate" if row < 2 else "score"} for row, item in enumerate(items(5))]
    with counted(model) as found:
        trace_task(model, tasks, tmp_path / "trace.safetensors", 1000)
    assert sum(found.values()) == trace_work(tasks, LAYERS, paired=True).layers == LAYERS * LENGTH * (2 + 3 * 3)
    bare = [{key: value for key, value in item.items() if key != "counterfactual_ids"} for item in tasks]
    with counted(model) as found:
        trace_task(model, bare, tmp_path / "trace.safetensors", 1000)
    assert sum(found.values()) == trace_work(bare, LAYERS, paired=False).layers == LAYERS * LENGTH * (2 + 3 * 2)


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("paired", [False, True])
def test_ablation_counts_every_row_and_pass(model, positions, paired):
    """Not planned: the padding of the recorded pass, and the clean row that goes with the others and into every layer.

    Nor that a check recomputes fewer effects where the largest are the first or last head of their layer.
    """
    asked = items()
    baseline = PromptBaseline(partners(asked, "counterfactual")) if paired else ZERO
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n

    with counted(model) as found:
        _, report = ablate_layers(model, asked, baseline, range(LAYERS), positions, 10_000, advance, engine="replay")
    planned = ablation_work(asked, range(LAYERS), LAYERS, HEADS, positions, paired)
    padded = replay_length(model, LENGTH)
    width = ANSWER if positions == "answer" else padded
    rows = HEADS * LAYERS * (LAYERS + 1) // 2
    clean = LAYERS + LAYERS  # reruns every layer, and enters every layer
    beyond = len(asked) * (LAYERS * (padded - LENGTH) + clean * width)
    beyond += len(asked) * rows * (width - (ANSWER if positions == "answer" else LENGTH))
    beyond -= (12 - report.checked) * LAYERS * LENGTH
    assert found["forward"] == planned.layers + beyond
    assert done == len(asked) * LAYERS * HEADS


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_written_answers_count_every_token_and_pass(model, positions):
    """Texts of full length under three sets: the prompt's first 8 tokens, 3 steps, and the check of four texts."""
    asked, sets = items(), [[], [(0, 1)], [(1, 0), (2, 3)]]
    with counted(model) as found:
        write_greedily(model, asked, lambda _ids: False, 10_000, sets, ZERO, positions)
    planned = generation_work(asked, len(sets), LAYERS, positions)
    shared = 3 if positions == "all" else 1
    assert found["forward"] == planned.layers == LAYERS * (5 * (8 * shared + 3 * 3) + 4 * LENGTH)
    assert planned.logits == 5 * (shared + 3 * 3) + 4 * ANSWER
    short = [{"prompt_ids": item["prompt_ids"][:4], "answer_ids": item["answer_ids"]} for item in asked[:2]]
    with counted(model) as found:
        write_greedily(model, [*asked, *short], lambda _ids: False, 10_000)
    beyond = LAYERS * 2 * 5  # padding of the two short prompts
    assert found["forward"] == generation_work([*asked, *short], 1, LAYERS, "answer").layers + beyond


def test_knock_outs_count_from_their_lowest_layer(model):
    """Beyond the plan: padding, and a clean row that runs all layers and enters those in which a set enters."""
    asked, sets = items(), [[(0, 1)], [(1, 0), (2, 3)], []]
    with counted(model) as found:
        *_, report = knock_out(model, asked, sets, ZERO, "answer", 10_000, engine="replay")
    planned = knock_out_work(asked, [0, 1, 2], LAYERS, "answer", paired=False)
    padded = replay_length(model, LENGTH)
    beyond = len(asked) * (LAYERS * (padded - LENGTH) + (LAYERS + LAYERS) * ANSWER)
    beyond -= (6 - report.checked) * LAYERS * LENGTH
    assert found["forward"] == planned.layers + beyond


def test_groups_of_heads_are_knock_outs_of_one_layer(model):
    """Two groups in each of three layers; the clean row enters every layer, too."""
    done = []
    with counted(model) as found:
        *_, report = ablate_groups(model, items(), ZERO, 2, "answer", 10_000, done.append, engine="replay")
    entries = group_entries(LAYERS, 2)
    assert entries == [2, 0, 0, 1, 1, 2, 2]
    planned = knock_out_work(items(), entries, LAYERS, "answer", paired=False)
    beyond = 5 * (LAYERS * (replay_length(model, LENGTH) - LENGTH) + (LAYERS + LAYERS) * ANSWER)
    beyond -= (6 - report.checked) * LAYERS * LENGTH
    assert found["forward"] == planned.layers + beyond
    assert sum(done) == 5 * len(entries)


def test_describing_heads_is_a_pass_over_items_and_sequences(model):
    """Beyond the plan: the sequence on which the stream is found. A tiny context cuts the random sequences."""
    done, tasks = [], {"a": items(), "b": items(2)}
    with counted(model) as found:
        describe_heads(model, tasks, 0, 10_000, done.append)
    planned = roles_work([*tasks.values()], LAYERS, 8)
    cut = 20 * (100 - 64) * LAYERS
    assert found == {"forward": planned.layers - cut + PROBE_TOKENS * LAYERS, "backward": 0}
    assert sum(done) == 20 + 7
    one, none = (roles_work(asked, LAYERS, 8) for asked in ([items(1)], []))
    assert one.context - none.context == LAYERS * LENGTH**2 * (1 + 2)  # 11 keys in blocks of 8
    assert one.logits - none.logits == 3 * ANSWER


def test_attention_reads_every_item_once(model):
    asked = items()
    with counted(model) as found:
        attend(model, asked, [[""] * (LENGTH + 1)] * len(asked), 10_000)
    planned = attention_work(asked, LAYERS, 8)
    assert found == {"forward": planned.layers, "backward": 0}
    assert planned.layers == 5 * LENGTH * LAYERS
    assert planned.context == 5 * LAYERS * LENGTH**2 * (1 + 2)  # 11 keys in blocks of 8
    assert attention_work([], LAYERS, 8).layers == 0


def test_integrated_gradients_count_their_steps(model):
    asked = items()
    baseline = PromptBaseline(partners(asked, "counterfactual"))
    with counted(model) as found:
        integrate(model, asked, baseline, "answer", path_points(asked, "line", 4), 1000)
        path_gains(model, asked, baseline, "answer", 1000)
    planned = integration_work(asked, 4, LAYERS, paired=True, adds_up=True)
    assert sum(found.values()) == planned.layers == 5 * LAYERS * LENGTH * (4 + 4 + 2 + 2)


def test_an_expected_gradient_is_one_pass_back_and_forth(model):
    asked = items()
    with counted(model) as found:
        integrate(model, asked, ZERO, "answer", path_points(asked, "expected", 1), 1000)
    planned = integration_work(asked, 1, LAYERS, paired=False, adds_up=False)
    assert sum(found.values()) == planned.layers == 5 * LAYERS * LENGTH * 2


def test_the_test_of_padding_runs_two_passes_unless_lengths_agree():
    assert padding_work(items(), LAYERS) == Work()
    lengths = random_items([(9, 3), (5, 1)])
    assert padding_work(lengths, LAYERS) == Work(LAYERS * (5 + 11), 0, 2, LAYERS * (25 + 121))


def test_the_expected_lowest_layer_of_random_heads():
    """Of one head the mean layer; of two in three layers (0 x 5 + 1 x 3 + 2 x 1) / 9; of none the last layer."""
    assert expected_entry(1, 30) == pytest.approx(14.5)
    assert expected_entry(2, 3) == pytest.approx(5 / 9)
    assert expected_entry(0, 30) == 29
