"""Gates: planted heads that no single ablation sees, mixed passes against plain ones, and what seeds learn from."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from families import HINDERING, TEAM, plain_log_prob, planted_items, planted_team, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.evidence.head_classes import CLASSES, classes_of, head_classes
from headatlas.models.batches import collate
from headatlas.models.head_model import find_heads
from headatlas.models.hooked import gated_scores
from headatlas.models.replacement import PromptBaseline, VectorBaseline
from headatlas.models.replay import Replay, replay_length
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.gates import fit_gates, halves, question_groups, soft_top_k
from headatlas.scoring.knock_out import knock_out

LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]
SETTINGS = {"positions": "answer", "seeds": 4, "steps": 40, "batch_size": 2, "learning_rate": 0.05, "sign": False}
ZERO = np.zeros((1, 3, 4, 8), np.float32)


def fit(model, items, baseline=ZERO, seed=0, tokens=1000, engine="replay", **settings):
    return fit_gates(model, items, baseline, SETTINGS | settings, seed, tokens, engine=engine)


# ----- the gates


def test_gates_add_up_to_k_are_nested_and_do_not_see_a_shift():
    scores = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)) * 4
    every = torch.stack([soft_top_k(scores, torch.full((5,), float(k))) for k in range(1, 9)])
    assert every.sum(-1).numpy() == pytest.approx(np.repeat(np.arange(1, 9.0)[:, None], 5, 1), abs=1e-4)
    assert bool((every[1:] >= every[:-1]).all())
    assert bool((every[1:] > every[:-1]).any(-1).all())
    assert torch.allclose(every[3], soft_top_k(scores + 7, torch.full((5,), 4.0)), atol=1e-5)


def test_gates_by_hand():
    """Scores that differ by log 3, at a temperature of 1/2: for k = 1 the gates' log-odds are log 3 and -log 3."""
    gates = soft_top_k(torch.tensor([[math.log(3), 0.0]]), torch.tensor([1.0]))
    assert gates[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-6)


def test_far_apart_scores_open_the_k_highest():
    scores = torch.tensor([[30.0, -40, 10, -20]])
    assert soft_top_k(scores, torch.tensor([2.0]))[0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-6)


def test_the_gradient_of_the_gates_is_the_finite_difference():
    scores = torch.randn(3, 7, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: soft_top_k(values, torch.tensor([1.0, 3, 6])), scores)


# ----- mixed passes


def plain_mixture(model, item, gates, baseline, positions):
    """Log-probability of one item by hooks written here: each head at gate * own + (1 - gate) * baseline."""
    start = len(item["prompt_ids"]) - 1 if positions == "answer" else 0
    handles = []
    for layer, attention in enumerate(model.attentions):

        def hook(_module, args, layer=layer, width=attention.d_head):
            z = args[0].clone()
            flat = z.view(1, -1, z.shape[-1])
            for head in range(model.n_heads):
                columns, gate = slice(head * width, (head + 1) * width), float(gates[layer, head])
                own = flat[:, start:, columns].clone()
                flat[:, start:, columns] = gate * own + (1 - gate) * torch.tensor(baseline[layer, head])
            return (z, *args[1:])

        handles.append(attention.projection.register_forward_pre_hook(hook))
    with torch.no_grad():
        found = float(plain_log_prob(model.model, item))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "bloom", "falcon_alibi", "qwen3_moe"])
def test_mixed_passes_equal_plain_hooks_and_each_other(family):
    """Random gates, several rows an item; replayed and full passes, and the gradients of both."""
    model, items = find_heads(random_model(family), family), random_items(LENGTHS)
    rng = np.random.default_rng(0)
    baseline = rng.normal(scale=0.2, size=(len(items), 3, 4, model.d_head)).astype(np.float32)
    rows = [0, 1, 2, 3]
    gates = torch.tensor(rng.random((4, 3, 3, 4)), dtype=torch.float32)
    found = {}
    for positions in ("answer", "all"):
        batch = collate(items, rows, replay_length(model, 14))
        replacement = VectorBaseline(baseline).on(model, batch, positions, range(3))
        leaf = gates.clone().requires_grad_()
        scores = gated_scores(model, batch, leaf, replacement, positions)
        found[positions] = scores.detach(), torch.autograd.grad(scores.square().sum(), leaf)[0]
        for row, item in enumerate(items):
            for each in range(3):
                expected = plain_mixture(model, item, gates[row, each], baseline[row], positions)
                assert found[positions][0][row, each].item() == pytest.approx(expected, abs=2e-5)
    leaf = gates.clone().requires_grad_()
    replay = Replay(model, collate(items, rows, replay_length(model, 14)), "answer", range(1))
    replacement = VectorBaseline(baseline).on(model, replay.batch, "answer", range(3))
    scores = replay.gated_scores(leaf, replacement)
    (slopes,) = torch.autograd.grad(scores.square().sum(), leaf)
    assert torch.allclose(scores.detach(), found["answer"][0], atol=2e-5)
    assert torch.allclose(slopes, found["answer"][1], atol=1e-3, rtol=1e-3)
    assert float(slopes.abs().max()) > 0.1


# ----- planted heads


@pytest.fixture(scope="module")
def team():
    model, items = find_heads(planted_team()), planted_items()
    return model, items, fit(model, items)


def test_single_ablation_sees_none_of_the_team(team):
    """What the next test is about: every head's own effect is exactly 0, both together cost all that chance leaves."""
    model, items, _ = team
    effects, _ = ablate_layers(model, items, ZERO, range(3), "answer", 1000)
    assert np.abs(effects).max() == 0
    scores, _, _ = knock_out(model, items, [[], list(TEAM)], ZERO, "answer", 1000)
    assert (scores[0] - scores[1] > math.log(8)).all()  # the hindering head is left: worse than chance


def ranked(score):
    return [divmod(int(head), 4) for head in np.argsort(-score.ravel(), kind="stable")]


def test_heads_that_back_each_other_up_come_first(team):
    _, _, (found, _) = team
    for score in found.score:
        assert set(ranked(score)[:2]) == set(TEAM)
        assert min(score[head] for head in TEAM) > 1
        assert np.sort(np.abs(score).ravel())[-3] < 0.1


def test_a_hindering_head_comes_last_and_idle_heads_are_the_median():
    model, items = find_heads(planted_team(scale=0.5)), planted_items()
    effects, _ = ablate_layers(model, items, ZERO, range(3), "answer", 1000)
    assert (effects[:, HINDERING[0], HINDERING[1]] < 0).all()
    found, _ = fit(model, items)
    idle = np.ones((3, 4), bool)
    idle[tuple(zip(*TEAM, HINDERING, strict=True))] = False
    for score in found.score:
        order = ranked(score)
        assert (set(order[:2]), order[-1]) == (set(TEAM), HINDERING)
        assert np.abs(score[idle]).max() == 0  # nothing tells the idle heads apart
        assert min(score[head] for head in TEAM) > 1
        assert score[HINDERING] < 0


def test_the_loss_on_held_out_questions_falls(team):
    _, _, (found, _) = team
    assert found.steps == [0, 8, 16, 24, 32, 40]
    assert found.losses.shape == (6, 4)
    assert (found.losses[-1] < 0.2 * found.losses[0]).all()
    assert found.clean == pytest.approx(0, abs=1e-6)
    assert found.shut == pytest.approx(-math.log(8), abs=1e-5)


def test_replayed_and_full_passes_learn_the_same(team):
    model, items, (replayed, report) = team
    assert (report.engine, report.reason) == ("replay", None)
    full, report = fit(model, items, engine="hooked")
    assert (report.engine, report.checked) == ("hooked", 8)
    assert np.abs(full.score - replayed.score).max() < 1e-2


def test_edits_at_all_positions_find_the_team_too(team):
    model, items, _ = team
    found, report = fit(model, items, positions="all", engine="replay", seeds=2)
    assert report.engine == "hooked"
    assert report.reason is None  # not a slower way than asked for: there is no faster one
    assert set(ranked(found.score.mean(0))[:2]) == set(TEAM)


# ----- gates that are pushed


PUSHED = {"steps": 75, "batch_size": 4, "learning_rate": 0.2, "sign": True}


@pytest.fixture(scope="module")
def pushed(team):
    model, items, _ = team
    return fit(model, items, **PUSHED)[0]


def test_every_seed_gives_every_head_of_the_team_its_class(pushed):
    """The two that back each other up, the one that hinders, and nine idle heads."""
    found = classes_of(pushed.pushed["open"], pushed.pushed["shut"])
    expected = np.full((3, 4), CLASSES.index("irrelevant"))
    expected[tuple(zip(*TEAM, strict=True))] = CLASSES.index("facilitating")
    expected[HINDERING] = CLASSES.index("interfering")
    assert (found == expected).all()
    table = head_classes({"a": pushed.pushed})
    assert table.filter(pl.col("class") != "irrelevant").select("layer", "head", "class").rows() == [
        (*HINDERING, "interfering"),
        *((*head, "facilitating") for head in TEAM),
    ]
    assert (table["stability"] == 1).all()


def test_pushed_gates_are_not_near_the_border(pushed):
    opened, shut = (pushed.pushed[push] for push in ("open", "shut"))
    idle = np.ones((3, 4), bool)
    idle[tuple(zip(*TEAM, HINDERING, strict=True))] = False
    assert opened[:, idle].min() > 0.95
    assert shut[:, idle].max() < 0.05
    assert min(gates[:, layer, head].min() for gates in (opened, shut) for layer, head in TEAM) > 0.8
    assert opened[:, *HINDERING].max() < 0.25


def test_a_push_leaves_the_map_as_it_is(team, pushed):
    model, items, _ = team
    alone = fit(model, items, **PUSHED | {"sign": False})[0]
    assert alone.score.tobytes() == pushed.score.tobytes()
    assert alone.pushed == {}


def test_pushed_gates_do_not_depend_on_the_size_of_a_pass():
    model, items = find_heads(random_model("llama")), random_items(LENGTHS * 2)
    large, small = (fit(model, items, steps=4, tokens=tokens, sign=True)[0].pushed for tokens in (4096, 1))
    for push in ("open", "shut"):
        assert np.abs(large[push] - small[push]).max() < 1e-3
        assert np.abs(large[push] - 0.5).max() > 0.02


# ----- seeds, batches, baselines


def test_same_seed_same_bytes_other_seed_other_numbers():
    model, items = find_heads(random_model("llama")), random_items([(6, 1)] * 8)
    first, second, other = (fit(model, items, steps=6, seed=seed)[0].score for seed in (0, 0, 1))
    assert first.tobytes() == second.tobytes()
    assert np.abs(first - other).max() > 0.1


def test_size_of_a_pass_does_not_matter():
    model, items = find_heads(random_model("llama")), random_items(LENGTHS * 2)
    large, small = (fit(model, items, steps=4, tokens=tokens)[0] for tokens in (4096, 1))
    assert np.abs(large.score - small.score).max() < 1e-2
    assert np.abs(large.losses - small.losses).max() < 1e-3
    assert np.abs(large.score).max() > 0.1


def test_the_seeds_of_a_pair_learn_from_different_questions():
    items = random_items([(6, 1)] * 12)
    for row, item in enumerate(items):
        item["question_id"] = f"q{row // 2}"
    found, _ = fit(find_heads(random_model("llama")), items, steps=2)
    assert found.learned_from.shape == (4, 12)
    assert np.array_equal(found.learned_from[0], ~found.learned_from[1])
    assert np.array_equal(found.learned_from[2], ~found.learned_from[3])
    assert np.array_equal(found.learned_from[:, ::2], found.learned_from[:, 1::2])  # questions stay whole
    assert found.learned_from[0].sum() == 6


def test_pairs_share_out_the_groups_each_in_its_own_way():
    learned = halves(9, 20, seed=0)
    assert (learned[:, ::2].sum(0) == 4).all()
    assert np.array_equal(learned[:, ::2], ~learned[:, 1::2])
    assert len({column.tobytes() for column in learned.T}) > 10


def test_groups_hold_whole_questions():
    questions = [f"q{row % 7}" for row in range(20)]
    groups = question_groups(questions, 4, seed=0)
    assert sorted(row for group in groups for row in group) == list(range(20))
    owners = [{questions[row] for row in group} for group in groups]
    assert sum(map(len, owners)) == 7
    assert all(len(group) >= 4 for group in groups[:-1])
    assert question_groups(questions, 4, seed=1) != groups
    assert [len(group) for group in question_groups(["a", "b"], 64, seed=0)] == [1, 1]
    assert len(question_groups(["a"] * 9 + ["b"], 4, seed=0)) == 2


def test_one_question_is_refused():
    items = [item | {"question_id": "q"} for item in random_items([(6, 1)] * 4)]
    with pytest.raises(HeadAtlasError, match="gates need at least two questions"):
        fit(find_heads(random_model("llama")), items)


def test_a_prompt_patched_with_itself_teaches_nothing():
    """Every mixture is the clean model, so no gradient moves a score from 0."""
    model, items = find_heads(random_model("llama")), random_items([(6, 1), (8, 1), (5, 1), (9, 1)])
    found, _ = fit(model, items, PromptBaseline(items), steps=3)
    assert np.abs(found.losses).max() < 1e-5
    other = [item | {"prompt_ids": item["prompt_ids"][::-1]} for item in items]
    assert np.abs(fit(model, items, PromptBaseline(other), steps=3)[0].losses).max() > 1e-2


def test_keys_and_values_beyond_the_memory_of_the_job_are_refused():
    model = find_heads(random_model("llama"))
    model.room = 20_000
    with pytest.raises(HeadAtlasError, match=r"keys and values of the items .* take more than 0 MB; give the job more"):
        fit(model, random_items([(20, 1)] * 8))
