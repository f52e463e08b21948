"""The parts of the residual stream add up to the logits in every family, and each is what plain hooks find."""

import pytest
import torch
from families import FAMILIES, planted_items, planted_model, random_items, random_model
from headatlas.models.batches import collate
from headatlas.models.head_model import find_heads
from headatlas.models.precision import compute_in_float32
from headatlas.models.stream import UnknownStreamError, find_stream
from headatlas.scoring.direct import direct_effects, promoted_tokens

ITEMS = random_items([(9, 3), (5, 1), (12, 2), (5, 2)])
FOIL = 7
FOILED = [item | {"foil_id": FOIL} for item in ITEMS]
CAPPED = {"gemma2": 30.0}  # final_logit_softcapping


def plain_differences(model, item: dict, cap: float | None = None) -> torch.Tensor:
    """[answer]: the answer's logit less the mean, or (last one) less the foil's; before the soft cap."""
    ids = torch.tensor([item["prompt_ids"] + item["answer_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(item["prompt_ids"]) - 1 : -1].double()
    logits = logits if cap is None else cap * torch.atanh(logits / cap)
    chosen = logits[torch.arange(len(logits)), item["answer_ids"]]
    return (chosen - logits[:, item["foil_id"]])[-1:] if "foil_id" in item else chosen - logits.mean(-1)


def total(parts) -> torch.Tensor:
    return parts.heads.sum((-1, -2)) + parts.rest.sum(-1) + parts.embedding + parts.bias


@pytest.mark.parametrize("items", [ITEMS, FOILED], ids=["mean", "foil"])
@pytest.mark.parametrize("family", FAMILIES)
def test_parts_add_up_to_the_difference_of_logits(family, items):
    """In a padded batch; the expected differences come from passes over single items."""
    heads = find_heads(random_model(family), family)
    parts = direct_effects(find_stream(heads), collate(items, [0, 1, 2, 3]))
    for row, item in enumerate(items):
        expected = plain_differences(heads.model, item, CAPPED.get(family))
        found = total(parts)[row][parts.mask[row]]
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
        mean = parts.heads[row][parts.mask[row]].mean(0)
        torch.testing.assert_close(parts.of_items[row], mean, atol=1e-6, rtol=1e-5)


def test_each_head_and_mlp_of_a_llama():
    """Head by head and layer by layer from plain hooks: slices of `o_proj`, outputs of `mlp`, frozen RMSNorm."""
    model = random_model("llama")
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _m, args, out, name=name: seen.__setitem__(name, (args, out)))
    item = FOILED[0]
    parts = direct_effects(find_stream(find_heads(model)), collate([item], [0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([item["prompt_ids"] + item["answer_ids"][:-1]]))
    given, normed = seen["model.norm"][0][0][0, -1], seen["model.norm"][1][0, -1]
    scale = normed / (model.model.norm.weight * given)
    reader = (model.lm_head.weight[item["answer_ids"][-1]] - model.lm_head.weight[FOIL]) * model.model.norm.weight
    reader = reader * scale.median()
    for layer in range(3):
        z = seen[f"model.layers.{layer}.self_attn.o_proj"][0][0][0, -1]
        weight = model.model.layers[layer].self_attn.o_proj.weight
        for head in range(4):
            columns = slice(8 * head, 8 * head + 8)
            expected = reader @ (weight[:, columns] @ z[columns])
            torch.testing.assert_close(parts.heads[0, 0, layer, head], expected, atol=1e-6, rtol=1e-5)
        mlp = reader @ seen[f"model.layers.{layer}.mlp"][1][0, -1]
        torch.testing.assert_close(parts.rest[0, 0, layer], mlp, atol=1e-6, rtol=1e-5)
    embedding = reader @ seen["model.embed_tokens"][1][0, -1]
    torch.testing.assert_close(parts.embedding[0, 0], embedding, atol=1e-6, rtol=1e-5)
    assert float(parts.bias[0, 0].abs()) < 1e-6


def test_a_norm_behind_the_attention_keeps_its_scale():
    """Gemma 2: a head passes `post_attention_layernorm`, whose scale is that of all heads' sum."""
    model = random_model("gemma2")
    item, seen = FOILED[2], {}
    norm = model.model.layers[1].post_attention_layernorm
    for module in (norm, model.model.layers[1].self_attn.o_proj, model.model.norm):
        module.register_forward_hook(lambda m, args, _out: seen.__setitem__(m, args[0][0, -1]))
    parts = direct_effects(find_stream(find_heads(model)), collate([item], [0]))
    attention = model.model.layers[1].self_attn.o_proj
    written = attention.weight[:, 16:32] @ seen[attention][16:32]
    behind = (1 + norm.weight) * written * (seen[norm].square().mean() + norm.eps).rsqrt()
    last = model.model.norm
    normed = (1 + last.weight) * behind * (seen[last].square().mean() + last.eps).rsqrt()
    expected = normed @ (model.lm_head.weight[item["answer_ids"][-1]] - model.lm_head.weight[FOIL])
    torch.testing.assert_close(parts.heads[0, 0, 1, 1], expected, atol=1e-6, rtol=1e-5)


def test_the_planted_head_alone_writes_the_answer():
    heads = find_heads(planted_model())
    stream = find_stream(heads)
    parts = direct_effects(stream, collate(planted_items(), list(range(8))))
    only = torch.zeros(3, 4, dtype=torch.bool)
    only[1, 2] = True
    assert not parts.of_items[:, ~only].any()
    torch.testing.assert_close(parts.heads[..., 1, 2], parts.difference)
    promoted, suppressed = promoted_tokens(stream, parts.weighted[5], 2)
    assert promoted[1, 2, 0] == 5
    assert 5 not in suppressed[1, 2]
    torch.testing.assert_close(stream.unembed(torch.eye(32))[24:], 8 * torch.eye(8))


def test_half_precision_weights_have_the_parts_of_their_float32_twin():
    half = random_model("gpt2").to(torch.bfloat16)
    twin = random_model("gpt2").to(torch.bfloat16).float()
    compute_in_float32(half)
    batch = collate(FOILED, [0, 1, 2, 3])
    found, expected = (direct_effects(find_stream(find_heads(model)), batch) for model in (half, twin))
    torch.testing.assert_close(found.heads, expected.heads, atol=1e-5, rtol=1e-4)


def test_the_scale_of_logits_counts():
    model = random_model("llama")
    plain = find_stream(find_heads(model))
    forward = model.forward

    def scaled(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits / 4
        return output

    model.forward = scaled
    assert plain.factor == 1
    assert find_stream(find_heads(model)).factor == pytest.approx(0.25, rel=1e-6)


def test_layers_that_add_something_else_are_refused():
    model = random_model("llama")
    layer = model.model.layers[1]
    own = layer.forward
    layer.forward = lambda hidden, **kwargs: own(hidden, **kwargs) + 0.1 * hidden
    with pytest.raises(UnknownStreamError, match="what a layer adds is not its attention's output plus"):
        find_stream(find_heads(model))


def test_a_step_between_final_norm_and_output_layer_is_refused():
    model = random_model("llama")
    model.model.norm.register_forward_hook(lambda _m, _args, out: out.roll(1, -1))
    with pytest.raises(UnknownStreamError, match="no norm leads from its last layer to its output layer"):
        find_stream(find_heads(model))
