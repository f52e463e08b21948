"""GIM's backward rules: each against a block written by hand, all together against whole models written by hand."""

import math

import numpy as np
import pytest
import torch
from families import FAMILIES, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models.batches import collate
from headatlas.models.gim import Tempered, gim, ruled
from headatlas.models.head_model import find_heads
from headatlas.scoring.attribution import integrate, path_points
from torch import nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

REFUSED = {
    "falcon": "layer 0, which has attention code of its own",
    "falcon_alibi": "layer 0, which has attention code of its own",
    "bloom": "layer 0, which has attention code of its own",
    "mixtral": "model.layers.0.mlp.experts, which multiplies what depends on the input",
    "qwen3_moe": "model.layers.0.mlp.experts, which multiplies what depends on the input",
}
GATED = {"llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "olmo2"}
NORMS = {"qwen3": 4, "gemma2": 4, "gemma3": 6, "olmo2": 4, "phi": 1}  # of a layer; 2 in other families


# --- rules by hand: backward passes as explicit formulas -------------------------------------------------------------


class ByHand:
    """Functions whose backward pass is GIM's formula."""

    class Norm(torch.autograd.Function):
        """weight * (x - mean) / deviation + bias: the gradient is weight * g / deviation, less its mean if centred."""

        @staticmethod
        def forward(ctx, x, weight, bias, epsilon, centred):
            middle = x - x.mean(-1, keepdim=True) if centred else x
            deviation = (middle.pow(2).mean(-1, keepdim=True) + epsilon).sqrt()
            ctx.save_for_backward(weight / deviation)
            ctx.centred = centred
            return weight * middle / deviation + bias

        @staticmethod
        def backward(ctx, g):
            g = g * ctx.saved_tensors[0]
            return (g - g.mean(-1, keepdim=True) if ctx.centred else g), None, None, None, None

    class Softmax(torch.autograd.Function):
        """The gradient is t * (g - g . t) with t = softmax(x / 2)."""

        @staticmethod
        def forward(ctx, x):
            soft = torch.exp(x / 2 - (x / 2).logsumexp(-1, keepdim=True))
            ctx.save_for_backward(soft)
            return torch.exp(x - x.logsumexp(-1, keepdim=True))

        @staticmethod
        def backward(ctx, g):
            (soft,) = ctx.saved_tensors
            return soft * (g - (g * soft).sum(-1, keepdim=True))

    class Share(torch.autograd.Function):
        """The gradient is a share of what comes in."""

        @staticmethod
        def forward(ctx, x, share):
            ctx.share = share
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return ctx.share * g, None


class Plain:
    """The same functions with their own gradients."""

    class Norm:
        @staticmethod
        def apply(x, weight, bias, epsilon, centred):
            middle = x - x.mean(-1, keepdim=True) if centred else x
            return weight * middle / (middle.pow(2).mean(-1, keepdim=True) + epsilon).sqrt() + bias

    class Softmax:
        @staticmethod
        def apply(x):
            return x.softmax(-1)

    class Share:
        @staticmethod
        def apply(x, _share):
            return x


def attend(rules, query, key, value, scaling):
    """[item, head, position, width] -> [item, position, head, width], causal."""
    query, key, value = (rules.Share.apply(x, s) for x, s in ((query, 0.25), (key, 0.25), (value, 0.5)))
    scores = query @ key.transpose(-1, -2) * scaling
    later = torch.ones(scores.shape[-2:]).triu(1).bool()
    return (rules.Softmax.apply(scores.masked_fill(later, -1e9)) @ value).transpose(1, 2)


def llama(model, ids, gates, rules):
    """Logits of a Llama whose heads keep the share `gates` [layer, head] of their outputs (the baseline is zero)."""
    config, inner = model.config, model.model
    x, heads = inner.embed_tokens(ids), config.num_attention_heads
    width = config.hidden_size // heads
    rotation = inner.rotary_emb(x, torch.arange(ids.shape[1])[None])

    def norm(module, x):
        return rules.Norm.apply(x, module.weight, torch.zeros(()), module.variance_epsilon, False)

    for layer, gate in zip(inner.layers, gates, strict=True):
        attention, read = layer.self_attn, norm(layer.input_layernorm, x)
        query, key, value = (
            projection(read).unflatten(-1, (-1, width)).transpose(1, 2)
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = apply_rotary_pos_emb(query, key, *rotation)
        # A share of the gradient to keys and values before they are repeated is that share after.
        key, value = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (key, value))
        z = attend(rules, query, key, value, width**-0.5) * gate[:, None]
        x = x + attention.o_proj(z.flatten(-2))
        mlp, read = layer.mlp, norm(layer.post_attention_layernorm, x)
        x = x + mlp.down_proj(rules.Share.apply(nn.functional.silu(mlp.gate_proj(read)) * mlp.up_proj(read), 0.5))
    return model.lm_head(norm(inner.norm, x))


def gpt2(model, ids, gates, rules):
    """The same for GPT-2, whose norms are centred and whose MLPs have no gate."""
    inner, heads = model.transformer, model.config.n_head
    x = inner.wte(ids) + inner.wpe(torch.arange(ids.shape[1]))

    def norm(module, x):
        return rules.Norm.apply(x, module.weight, module.bias, module.eps, True)

    for layer, gate in zip(inner.h, gates, strict=True):
        parts = layer.attn.c_attn(norm(layer.ln_1, x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts)
        z = attend(rules, query, key, value, query.shape[-1] ** -0.5) * gate[:, None]
        x = x + layer.attn.c_proj(z.flatten(-2))
        x = x + layer.mlp.c_proj(nn.functional.gelu(layer.mlp.c_fc(norm(layer.ln_2, x)), approximate="tanh"))
    return model.lm_head(norm(inner.ln_f, x))


def slopes_by_hand(forward, model, item, rules):
    """[layer, head]: derivative of the answer's log-probability with respect to the heads' gates, all at 1."""
    ids = torch.tensor([item["prompt_ids"] + item["answer_ids"]])
    gates = torch.ones(3, 4, requires_grad=True)
    log_probs = forward(model, ids, gates, rules)[0].log_softmax(-1)
    start = len(item["prompt_ids"])
    score = torch.stack([log_probs[start - 1 + i, token] for i, token in enumerate(item["answer_ids"])]).mean()
    return torch.autograd.grad(score, gates)[0].numpy()


@pytest.mark.parametrize(("family", "forward"), [("llama", llama), ("gpt2", gpt2)])
def test_slopes_are_those_of_a_model_written_by_hand(family, forward):
    model, items = find_heads(random_model(family)), random_items([(9, 3), (5, 1), (12, 2)])
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "norm" in name or "ln_" in name:  # not all ones and zeros
                weight.add_(0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    zero = np.zeros((1, *model.shape), np.float32)
    found = {
        rule: integrate(model, items, zero, "all", path_points(items, "line", 1), 1000, rule=rule)
        for rule in ("plain", "gim")
    }
    for rule, rules in (("plain", Plain), ("gim", ByHand)):
        expected = np.stack([slopes_by_hand(forward, model.model, item, rules) for item in items])
        assert np.abs(found[rule] - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(found["gim"] - found["plain"]).max() > 0.1 * np.abs(found["plain"]).max()


# --- each rule by itself, by numbers ---------------------------------------------------------------------------------


def inside(model):
    """Gradients at some modules' inputs and outputs under GIM, by name: (input, gradient, output, gradient)."""
    found = {}

    def watch(name):
        def hook(_module, args, output):
            for tensor in (args[0], output):
                tensor.retain_grad()
            found[name] = (args[0], output)

        return hook

    ids = torch.tensor([[5, 9, 20, 33, 4]])
    names = ("model.layers.1.mlp.act_fn", "model.layers.1.mlp.up_proj", "model.layers.1.mlp.down_proj", "model.norm")
    hooks = [model.model.model.embed_tokens.register_forward_hook(lambda _m, _a, out: out.requires_grad_())]
    with gim(model):
        hooks += [model.model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
        model.model(input_ids=ids).logits.log_softmax(-1)[0, -1, 7].backward()
    for hook in hooks:
        hook.remove()
    return found


def test_the_product_of_a_gated_mlp_gets_half_of_the_gradient():
    found = inside(find_heads(random_model("llama")))
    up, activation, product = (found[f"model.layers.1.mlp.{name}"] for name in ("up_proj", "act_fn", "down_proj"))
    down = find_heads(random_model("llama")).model.model.layers[1].mlp.down_proj.weight
    whole = product[1].grad @ down  # what comes from the output projection
    assert torch.allclose(up[1].grad, 0.5 * whole * activation[1], atol=1e-6)
    assert torch.allclose(activation[1].grad, 0.5 * whole * up[1], atol=1e-6)
    assert whole.abs().max() > 1e-3


def test_a_norm_scales_the_gradient_by_a_constant():
    x, y = inside(find_heads(random_model("llama")))["model.norm"]
    scale = (y / x).detach()  # weight / root mean square: all weights are 1
    assert torch.allclose(x.grad, y.grad * scale, atol=1e-6)
    assert (x.grad * x).sum(-1).abs().max() > 1e-3  # a norm's own gradient is at a right angle to its input


def test_two_tokens_get_the_temperature_and_the_shares_by_hand():
    """One head, two positions: weight w = sigmoid(s) on the second; with temperature 2, dw/ds = w2 (1 - w2)."""
    query, key, value = (torch.tensor(x, requires_grad=True) for x in ([3.0], [[0.0], [1.0]], [[0.0], [2.0]]))
    model = find_heads(random_model("llama"))

    def attention(_module, query, key, value):
        return (query * key[:, 0]).softmax(-1) @ value

    output = ruled(attention, Tempered)(model, query, key, value)
    assert output.item() == pytest.approx(2 / (1 + math.exp(-3)))  # forward: temperature 1
    output.backward()
    weight, soft = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-1.5))
    slope = soft * (1 - soft) * 2  # of the output with respect to the second score
    assert query.grad.tolist() == pytest.approx([0.25 * slope])
    assert key.grad[:, 0].tolist() == pytest.approx([-0.25 * 3 * slope, 0.25 * 3 * slope])
    assert value.grad[:, 0].tolist() == pytest.approx([0.5 * (1 - weight), 0.5 * weight])


# --- every family ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {*REFUSED}))
def test_parts_are_found_and_numbers_stay(family):
    model = find_heads(random_model(family))
    batch = collate(random_items([(9, 3), (5, 1)]), [0, 1])

    def logits():
        with torch.no_grad():
            return model.logits(batch.input_ids, batch.attention_mask, batch.gather)

    before, implementation = logits(), model.model.config._attn_implementation
    with gim(model) as parts:
        under = logits()
    assert torch.allclose(before, under, atol=1e-6, rtol=1e-6)
    assert torch.equal(before, logits())
    assert model.model.config._attn_implementation == implementation
    model.model.set_attn_implementation("eager")
    assert torch.equal(logits(), under)  # to the last bit those of the same attention code
    assert len(parts.norms) == 3 * NORMS.get(family, 2) + 1
    assert len(parts.behind_gates) == (3 if family in GATED else 0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


@pytest.mark.parametrize("family", sorted(REFUSED))
def test_what_has_no_rule_is_refused(family):
    model = find_heads(random_model(family), "mine")
    with pytest.raises(HeadAtlasError) as refused, gim(model):
        pass
    expected = f"model mine: methods.attribution.rule: gim has no backward rule for {REFUSED[family]}; use rule: plain"
    assert str(refused.value) == expected
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


class Halves(nn.Module):
    """A norm of each half of its input: scale-free, but not a norm over the last dimension."""

    def forward(self, x):
        return nn.functional.layer_norm(x.unflatten(-1, (2, -1)), (x.shape[-1] // 2,)).flatten(-2)


class Unit(nn.Module):
    """Length 1: a norm without weights or epsilon."""

    def forward(self, x):
        return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-30)


@pytest.mark.parametrize("norm", [nn.LayerNorm(32), nn.RMSNorm(32, eps=0.01), Unit()])
def test_any_norm_of_the_form_is_found(norm):
    model = find_heads(random_model("llama"))
    model.model.model.layers[1].input_layernorm = norm.requires_grad_(False)
    with gim(model) as parts:
        found = parts.norms[norm]
    assert found.centred == isinstance(norm, nn.LayerNorm)
    epsilon = {nn.LayerNorm: 1e-5, nn.RMSNorm: 0.01, Unit: 0}[type(norm)]
    assert found.epsilon == pytest.approx(epsilon, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("replaced", "by", "what"),
    [
        ("input_layernorm", Halves(), "model.layers.1.input_layernorm, which seems to be a norm of another kind"),
        ("mlp.act_fn", Halves(), "model.layers.1.mlp.act_fn, which seems to be a norm of another kind"),
    ],
)
def test_a_norm_of_another_kind_is_refused(replaced, by, what):
    model = find_heads(random_model("llama"), "mine")
    model.model.model.layers[1].set_submodule(replaced, by)
    with pytest.raises(HeadAtlasError, match=what), gim(model):
        pass
