"""A head is an attention head, proven by what it does: planted false ones are refused, other mixers do not count."""

import numpy as np
import polars as pl
import pytest
import torch
from families import plain_effect, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.evidence.importance import importance_table, with_heads
from headatlas.evidence.knock_out_sets import choose_sets
from headatlas.files.effects import attribution_from_terms, clean_run, pool_baseline, read_baseline, write_effects
from headatlas.files.scores import read_effects, read_task, write_scores
from headatlas.models.batches import collate
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.attribution import integrate, path_points
from headatlas.scoring.trace import trace_batch, trace_task
from headatlas.stats.head_statistics import mean_effects, no_statistics
from sweep_families import tiny_model
from transformers import AttentionInterface

# Family -> which layers have attention, heads, width of a head; nothing else is a head.
HYBRIDS = {
    "lfm2": ("-A-A", 4, 8),  # short convolutions
    "recurrent_gemma": ("-A-A", 4, 8),  # recurrent blocks
    "qwen3_next": ("-A-A", 4, 8),  # gated delta nets
    "kimi_linear": ("-A-A", 4, 8),
    "granitemoehybrid": ("-A-A", 4, 8),  # Mamba-2 mixers
    "bamba": ("-A-A", 4, 8),
    "jamba": ("-A-A", 4, 8),
    "zamba2": ("-A-A", 4, 16),  # one attention block, its weights shared by all layers that have it
    "minimax": ("-A-A", 4, 8),  # lightning attention
    "falcon_h1": ("AAAA", 4, 8),  # attention parallel to a mixer in every layer
}


@pytest.mark.parametrize("family", HYBRIDS)
def test_only_attention_has_heads(family):
    heads = find_heads(tiny_model(family), family)
    layers = "".join("A" if attention else "-" for attention in heads.attentions)
    assert (layers, heads.n_heads, heads.d_head) == HYBRIDS[family]


@pytest.mark.parametrize(
    ("family", "between"),
    [("qwen3_next", "gate or scale of each head"), ("bitnet", "norm over all heads"), ("llama", None)],
)
def test_what_stands_between_attention_and_projection_is_said(family, between):
    heads = find_heads(tiny_model(family), family)
    assert {part.between for part in heads.attentions if part} == {between}


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("mamba", "nothing in its layers mixes positions with attention weights"),
        ("rwkv", "nothing in its layers mixes positions with attention weights"),
        ("hrm_text", r"L_module\.layers\.0 runs 6 times in one pass; looped models are not supported"),
        ("diffllama", r"layers\.0 computes attention 2 times in one pass"),
        ("prophetnet", "found no linear map that takes the heads' outputs"),
        ("gemma4_text", r"layers differ in \(heads, head width\): \[\(4, 8\), \(4, 512\)\]"),
        ("xlnet", "another last token changes what the model says before it"),
    ],
)
def test_refused_in_one_line(family, message):
    with pytest.raises(HeadAtlasError, match=message) as caught:
        find_heads(tiny_model(family), family)
    assert "\n" not in str(caught.value)


def _uniform(query, key, value):
    """Plain causal attention written out: [item, position, head, width] and the weights."""
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    later = torch.ones(scores.shape[-2:]).triu(1).bool()
    return scores.masked_fill(later, -torch.inf).softmax(-1), value


def _half_heads(module, query, key, value, mask, **options):
    """Each head's channels are two halves with attention of their own: twice as many heads as queries say."""
    weights, value = _uniform(query, key, value)
    others, _ = _uniform(query.flip(-1), key, value)
    first, second = value.chunk(2, -1)
    return torch.cat([weights @ first, others @ second], -1).transpose(1, 2), None


def _paired_heads(module, query, key, value, mask, **options):
    """Heads 0 and 1, 2 and 3 share their weights: half as many heads as queries say."""
    weights, value = _uniform(query, key, value)
    return (weights[:, ::2].repeat_interleave(2, 1) @ value).transpose(1, 2), None


def _true_heads(module, query, key, value, mask, **options):
    weights, value = _uniform(query, key, value)
    return (weights @ value).transpose(1, 2), None


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_half_heads, "the channels of one head mix positions with different weights"),
        (_paired_heads, "heads 0 and 1 mix positions with the same weights whatever their queries"),
        (_true_heads, None),
    ],
)
def test_planted_false_heads_are_refused(function, message):
    AttentionInterface.register("planted", function)
    model = random_model("llama")
    model.config._attn_implementation = "planted"
    if message is None:
        assert find_heads(model, "planted").n_heads == 4
        return
    with pytest.raises(HeadAtlasError, match=message):
        find_heads(model, "planted")


def test_heads_mixed_before_the_projection_are_refused():
    model = random_model("llama")
    projection = model.model.layers[1].self_attn.o_proj
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]
    projection.register_forward_pre_hook(lambda _module, args: (args[0] @ turn,))
    with pytest.raises(HeadAtlasError, match=r"layers\.1: the step between attention and output projection mixes"):
        find_heads(model, "turned")


def test_heads_of_own_attention_code_must_follow_their_weights():
    """BLOOM with the channels of its heads interleaved: the slices of the projection's input are no heads."""
    model = random_model("bloom")
    assert {part.proof for part in find_heads(model, "bloom").attentions} == {"attention weights"}
    projection = model.transformer.h[2].self_attention.dense
    projection.register_forward_pre_hook(
        lambda _module, args: (args[0].unflatten(-1, (4, 8)).transpose(-1, -2).flatten(-2),)
    )
    with pytest.raises(HeadAtlasError, match=r"h\.2: cut into 4 heads, the input of its output projection does not"):
        find_heads(model, "interleaved")


@pytest.fixture(scope="module")
def hybrid() -> HeadModel:
    return find_heads(tiny_model("qwen3_next"), "qwen3_next")


ITEMS = random_items([(21, 2), (14, 1), (17, 3), (12, 2)])


def test_effects_of_a_hybrid_are_those_of_plain_passes_and_absent_elsewhere(hybrid):
    zeros = np.zeros((1, 4, 4, 8), np.float32)
    for positions in ("answer", "all"):
        effects, report = ablate_layers(hybrid, ITEMS, zeros, range(4), positions, 512)
        assert (report.engine, report.reason) == ("hooked", "layer 0 mixes positions without attention")
        assert np.isnan(effects).all((0, 2)).tolist() == [True, False, True, False]
        for layer in (1, 3):
            for head in range(4):
                columns = slice(8 * head, 8 * head + 8)
                truth = plain_effect(
                    hybrid.model, hybrid.attentions[layer].projection, ITEMS[0], columns, 0.0, positions
                )
                assert effects[0, layer, head] == pytest.approx(truth, abs=2e-5)
        slopes = integrate(hybrid, ITEMS, zeros, positions, path_points(ITEMS, "line", 2), 512)
        assert np.isnan(slopes).all((0, 2)).tolist() == [True, False, True, False]
        assert np.isfinite(slopes[:, [1, 3]]).all()


def test_a_hybrid_goes_through_files_and_tables_with_nothing_in_its_other_layers(hybrid, tmp_path):
    trace, effects = tmp_path / "trace.safetensors", tmp_path / "ablation" / "a.safetensors"
    trace_task(hybrid, ITEMS, trace, 512)
    question, correct, absent = clean_run(trace)
    assert absent == [0, 2]
    terms = attribution_from_terms(trace, np.zeros((1, 4, 4, 8), np.float32), "answer")
    gradients = trace_batch(hybrid, collate(ITEMS, [0, 1, 2, 3]), gradients=True)["gradient_dot_output_answer"]
    assert np.allclose(terms[:, [1, 3]], gradients[:, [1, 3]].numpy(), atol=1e-6)
    pool_baseline({"a": trace}, tmp_path / "baseline.safetensors", 2, 0)
    settings = {"baseline": "mean", "positions": "answer", "task": "a", "seed": 0}
    baseline = read_baseline(settings, ITEMS, (4, 4, 8), trace, tmp_path / "baseline.safetensors")
    assert np.isnan(baseline).all((0, 2, 3)).tolist() == [True, False, True, False]
    write_effects(effects, terms, question, correct, absent)
    read = read_effects(effects)
    assert read.without_attention == [0, 2]
    assert np.array_equal(read.flat, terms[:, [1, 3]].reshape(4, 8).astype(np.float32))
    means = mean_effects(read.effect, read.question)
    chosen = choose_sets(means, np.where(np.isnan(means), np.nan, 1.0), [1, 2], 3, (0,))
    assert {layer for part in chosen for layer, _ in part["heads"]} <= {1, 3}
    assert read_task(tmp_path / "ablation", ["{task}.safetensors"], "a").without_attention == [0, 2]


def test_an_effect_that_is_not_finite_where_there_is_attention_is_refused(tmp_path):
    effect = np.full((2, 2, 3), np.nan, np.float32)
    with pytest.raises(HeadAtlasError, match="the effect of layer 1, head 0 on item 0 is not finite"):
        write_effects(tmp_path / "x", effect, np.arange(2), np.ones(2), [0])


def test_importance_is_shared_among_the_heads_there_are(tmp_path):
    names = {"model": "m", "method": "ablation", "task": "t"}
    write_scores(tmp_path / "layer-0.parquet", no_statistics(2), names, 0)
    known = no_statistics(2)._replace(
        effect=np.array([3.0, -1.0]), p_value=np.array([0.01, 0.5]), n_items=4, n_questions=4
    )
    write_scores(tmp_path / "layer-1.parquet", known, names, 1)
    scores = pl.concat([pl.read_parquet(tmp_path / f"layer-{layer}.parquet") for layer in (0, 1)])
    table = importance_table(scores, ["ablation"], ["t"])
    assert table["importance"].to_list() == [None, None, 0.75, 0.25]
    assert table["rank"].to_list() == [None, None, 1, 2]
    assert table["q_value"].to_list() == [None, None, 0.02, 0.5]
    assert table["n_items"].to_list() == [0, 0, 4, 4]
    assert with_heads(table)["layer"].to_list() == [1, 1]
