"""Groups of heads that share a key-value head: planted backups, plain hooks, and which heads a group has."""

import math

import numpy as np
import pytest
import torch
from families import FAMILIES, plain_effect, plain_log_prob, planted_items, planted_model, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models.head_model import find_heads
from headatlas.scoring.ablate_groups import ablate_groups, group_members
from headatlas.scoring.ablation import ablate_layers

ZERO = np.zeros((1, 3, 4, 8), np.float32)
GROUPED = [name for name, config in FAMILIES.items() if getattr(config(), "num_key_value_heads", None) == 2]


@pytest.mark.parametrize("engine", ["replay", "hooked"])
def test_two_heads_that_back_each_other_up_matter_more_together(engine):
    """Either alone makes the model nearly as sure; without both, all logits are 0."""
    model = find_heads(planted_model(groups=2, heads=(2, 3)))
    items = planted_items()
    effects, report = ablate_groups(model, items, ZERO, 2, "answer", 1000, engine=engine)
    single, _ = ablate_layers(model, items, ZERO, range(3), "answer", 1000, engine=engine)
    assert (effects.shape, report.engine) == ((8, 3, 2), engine)
    with torch.no_grad():
        whole = [float(plain_log_prob(model.model, item)) + math.log(8) for item in items]
    assert effects[:, 1, 1] == pytest.approx(whole, abs=1e-5)
    assert (single[:, 1, 2:].sum(-1) < 0.5 * effects[:, 1, 1]).all()
    others = np.ones((3, 2), bool)
    others[1, 1] = False
    assert np.abs(effects[:, others]).max() == 0


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["llama", "phi3", "gemma3"])
def test_a_group_equals_plain_hooks_on_its_columns(family, positions):
    model = find_heads(random_model(family), family)
    items = random_items([(9, 3), (5, 1)])
    baseline = np.random.default_rng(1).normal(scale=0.2, size=(1, 3, 4, model.d_head)).astype(np.float32)
    effects, _ = ablate_groups(model, items, baseline, 2, positions, 300)
    for row, item in enumerate(items):
        for layer, part in enumerate(model.attentions):
            for group in range(2):
                columns = slice(2 * group * part.d_head, 2 * (group + 1) * part.d_head)
                values = baseline[0, layer, 2 * group : 2 * group + 2].reshape(-1)
                expected = plain_effect(model.model, part.projection, item, columns, values, positions)
                assert abs(effects[row, layer, group] - expected) < 1e-5, (row, layer, group)


@pytest.mark.parametrize("family", GROUPED)
def test_a_group_is_the_heads_whose_outputs_follow_one_value_head(family):
    """Change the values of one key-value head of the lowest layer, and see whose outputs change."""
    model = find_heads(random_model(family), family)
    attention = model.attentions[0]
    for group, members in enumerate(group_members(0, 4, 2)):
        changed = _outputs(model, group) - _outputs(model, None)
        moved = attention.split(changed).abs().amax((0, 1, 3)) > 1e-4
        assert moved.nonzero().flatten().tolist() == [head for _, head in members]


def _outputs(model, group: int | None) -> torch.Tensor:
    """[1, position, heads x d_head] of the lowest layer, with one value head's weights doubled."""
    attention, kept = model.attentions[0], []
    values = getattr(attention.module, "v_proj", None)
    # Phi-3 keeps queries, keys and values in one matrix, in this order.
    weight, first = (values.weight, 0) if values is not None else (attention.module.qkv_proj.weight, 6)
    hook = attention.projection.register_forward_pre_hook(lambda _module, args: kept.append(args[0]))
    scale = torch.ones(len(weight), 1)
    if group is not None:
        scale[(first + group) * attention.d_head : (first + group + 1) * attention.d_head] = 2
    with torch.no_grad():
        weight.mul_(scale)
        model.logits(torch.arange(3, 12)[None], torch.ones(1, 9, dtype=torch.long))
        weight.div_(scale)
    hook.remove()
    return kept[0]


def test_modules_that_state_other_groups_than_the_config_are_refused():
    model = find_heads(random_model("llama"), "mine")
    with pytest.raises(
        HeadAtlasError, match=r"^model mine: config.json states 4 key-value heads a layer, but .* among 2 "
    ):
        ablate_groups(model, random_items([(4, 1)]), ZERO, 4, "answer", 100)
