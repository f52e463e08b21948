"""The cost table of the documentation, and the arithmetic behind it."""

import pytest
from headatlas.cost.arithmetic import Arithmetic
from headatlas.cost.examples import MODELS, PAGE, with_table
from headatlas.errors import HeadAtlasError
from headatlas.models.work import Work
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4}
FAMILIES = {
    "llama": SIZES | {"num_key_value_heads": 2},
    "qwen3": SIZES | {"num_key_value_heads": 1, "head_dim": 20},
    "gemma2": SIZES | {"num_key_value_heads": 2, "head_dim": 12},
    "gpt_neox": SIZES,
    "gpt2": {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_inner": 80},
    "qwen3_moe": SIZES
    | {
        "num_key_value_heads": 2,
        "head_dim": 12,
        "num_experts": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
    },
}


def test_the_documentation_shows_the_computed_table():
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page


def test_parameters_of_the_llamas_as_published():
    """Bytes of the bfloat16 files by their index: 16,060,522,496 and 141,107,412,992; the norms are not counted."""
    for name, published in (("8B", 16_060_522_496), ("70B", 141_107_412_992)):
        assert 2 * Arithmetic(MODELS[name], name).parameters == pytest.approx(published, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_has_the_parameters_that_transformers_makes(family):
    """All matrices of the layers; both of two experts are taken, whose router is beside them."""
    given = FAMILIES[family] | {"vocab_size": 90, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, **given)
    named = AutoModelForCausalLM.from_config(config).named_parameters()
    others = ("embed", "wte", "wpe", "head", "gate.weight")  # embeddings, the output layer, a router
    layers = [weight for name, weight in named if weight.ndim > 1 and not any(word in name for word in others)]
    assert 3 * Arithmetic(config.to_dict(), family).layer_parameters == sum(weight.numel() for weight in layers)


def test_operations_by_hand():
    """Two for a parameter and position; four for each key, channel and head; split products double whole passes."""
    model = Arithmetic(SIZES | {"model_type": "llama", "vocab_size": 90}, "a model")
    layer = 4 * 48 * 48 + 3 * 48 * 80
    assert model.layer_parameters == layer
    assert model.operations(Work(whole=10)) == 2 * layer * 10
    assert model.operations(Work(whole=10, edited=5), products=2) == 2 * layer * 25
    assert model.operations(Work(logits=7, context=11)) == 2 * 48 * 90 * 7 + 4 * 48 * 11


def test_sizes_that_are_missing_are_named():
    with pytest.raises(HeadAtlasError, match=r"^a/model: config\.json gives no vocabulary size, so "):
        Arithmetic(SIZES, "a/model")
