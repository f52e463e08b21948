"""Adaptive ablation on planted and random models: the same effects as complete ablation, and fewer of them."""

import numpy as np
import pytest
import torch
from families import PLANTED, planted_items, planted_model, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.files.effects import write_effects
from headatlas.files.scores import read_effects, read_task
from headatlas.models.head_model import find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.adaptive import ablate_adaptively
from headatlas.stats.adaptive import Bound, round_ends

ZERO = np.zeros((1, 3, 4, 8), np.float32)


@pytest.mark.parametrize("way", ["replay", "hooked"])
def test_only_the_planted_head_gets_all_items(way):
    """All other heads have no effect at all: they stop after the first round of 20 questions."""
    model, items = find_heads(planted_model()), planted_items() * 4
    counted = []
    effects, rounds, report = ablate_adaptively(
        model, items, ZERO, range(3), "all", 1000, np.arange(32), Bound(smallest_effect=0.5), (0,), counted.append, way
    )
    others = np.ones((3, 4), bool)
    others[PLANTED] = False
    assert rounds.head[PLANTED] == len(round_ends(32)) == 3
    assert (rounds.head[others] == 1).all()
    assert np.array_equal(np.isfinite(effects), rounds.measured)
    assert sum(counted) == 32 + 11 * 20
    assert report.engine == way
    assert report.checked > 0
    complete, _ = ablate_layers(model, items, ZERO, range(3), "all", 1000, engine=way)
    assert np.abs(np.where(rounds.measured, effects - complete, 0)).max() < 1e-6


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_measured_effects_are_those_of_complete_ablation(positions):
    """A baseline of each item's own, items of several lengths, and items that share a question."""
    model = find_heads(random_model("llama"))
    items = random_items([(3 + index % 5, 1 + index % 2) for index in range(66)])
    questions = np.arange(66) // 2
    shape = (66, model.n_layers, model.n_heads, model.d_head)
    baseline = np.random.default_rng(1).normal(scale=0.2, size=shape).astype(np.float32)
    arguments = (model, items, baseline, range(1, 3), positions, 300)
    complete, _ = ablate_layers(*arguments, engine="replay")
    bound = Bound(smallest_effect=float(np.median(complete.std(0)) / 3))
    effects, rounds, _ = ablate_adaptively(*arguments, questions, bound, (0,), engine="replay")
    assert len(np.unique(rounds.head)) > 1
    assert np.array_equal(np.isfinite(effects), rounds.measured)
    assert np.abs(np.where(rounds.measured, effects - complete, 0)).max() < 1e-5


def test_the_numbers_of_plain_passes_decide_on_the_engine(monkeypatch):
    """A replay that is wrong on the first round's items is noticed, and all rounds are run again."""
    from headatlas.scoring import ablation

    replayed = ablation._replayed
    monkeypatch.setattr(ablation, "_replayed", lambda *given: replayed(*given) + 0.1)
    model, items = find_heads(planted_model()), planted_items() * 4
    counted = []
    effects, rounds, report = ablate_adaptively(
        model, items, ZERO, range(3), "all", 1000, np.arange(32), Bound(smallest_effect=0.5), (0,), counted.append
    )
    assert report.engine == "hooked"
    assert "differ from plain ones by 0.1" in report.reason
    assert sum(counted) == rounds.measured.sum() == 32 + 11 * 20
    assert np.nanmax(np.abs(effects[:, 0])) < 1e-6


def test_files_say_what_was_measured(tmp_path):
    model, items = find_heads(planted_model()), planted_items() * 4
    names = []
    for first, last in ((0, 0), (1, 2)):
        layers = range(first, last + 1)
        effects, rounds, report = ablate_adaptively(
            model, items, ZERO, layers, "all", 1000, np.arange(32), Bound(smallest_effect=0.5), (0,)
        )
        names.append(f"{{task}}.layers-{first}-{last}.safetensors")
        path = tmp_path / names[-1].format(task="t")
        about = (np.arange(32), np.ones(32))
        write_effects(path, effects, *about, first_layer=first, engine=report.as_dict(), rounds=rounds)
    read = read_task(tmp_path, names, "t")
    assert not read.complete
    assert read.rounds.head.shape == (3, 4)
    assert np.array_equal(np.isfinite(read.effect), read.rounds.measured)
    assert read_effects(path, 2).rounds.head.tolist() == [read.rounds.head[2].tolist()]
    effects[np.flatnonzero(rounds.item == 0)[0], 0, 0] = np.inf
    with pytest.raises(HeadAtlasError, match=r"the effect of layer 1, head 0 on item \d+ is not finite"):
        write_effects(path, effects, *about, first_layer=1, rounds=rounds)


def test_a_model_that_overflows_is_reported_where_effects_are_written(tmp_path):
    model, items = find_heads(planted_model()), planted_items() * 4
    with torch.no_grad():
        model.attentions[2].projection.weight.fill_(float("inf"))
    effects, rounds, _ = ablate_adaptively(
        model, items, ZERO, range(3), "all", 1000, np.arange(32), Bound(smallest_effect=0.5), (0,)
    )
    with pytest.raises(HeadAtlasError, match="the model overflows"):
        write_effects(tmp_path / "e", effects, np.arange(32), np.ones(32), rounds=rounds)
