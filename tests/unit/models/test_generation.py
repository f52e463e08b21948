"""Answers written with kept keys and values: as transformers writes them, and as plain passes with hooks say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, PLANTED, VOCABULARY, planted_model, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models import generation
from headatlas.models.generation import write_greedily
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.models.loading import load_model
from headatlas.tasks.tokens import load_tokeniser
from transformers import StaticCache

ROOT = Path(__file__).parents[3]
LENGTHS = (1, 2, 5, 9, 14, 14, 3)
STEPS = 8
END = 2
SETS = [[], [(0, 1)], [(1, 0), (1, 3), (2, 2)], [(2, 1)]]


def prompts() -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [rng.integers(3, VOCABULARY, length).tolist() for length in LENGTHS]


def asked(prompts: list[list[int]], steps: list[int]) -> list[dict]:
    return [{"prompt_ids": prompt, "answer_ids": [0] * n} for prompt, n in zip(prompts, steps, strict=True)]


def items(steps: int = STEPS) -> list[dict]:
    return asked(prompts(), [steps] * len(LENGTHS))


def over(ids: list[int]) -> bool:
    return ids[-1] == END


def talkative(family: str) -> HeadModel:
    """A random model with an output layer of its own: one that shares the embeddings' weights repeats what it read."""
    model = random_model(family)
    output = model.get_output_embeddings()
    output.weight = torch.nn.Parameter(torch.randn(output.weight.shape, generator=torch.Generator().manual_seed(1)))
    return find_heads(model, family)


def plain_text(model: HeadModel, prompt: list[int], heads: list, table: np.ndarray, positions: str) -> list[int]:
    """One full pass per token over the whole text, without kept keys and values, with hooks of its own."""
    start = len(prompt) - 1 if positions == "answer" else 0
    handles = []
    for layer, head in heads:
        attention = model.attentions[layer]

        def hook(_module, args, layer=layer, head=head, width=attention.d_head):
            z = args[0].clone()
            z[:, start:, head * width : (head + 1) * width] = torch.from_numpy(table[0, layer, head])
            return (z, *args[1:])

        handles.append(attention.projection.register_forward_pre_hook(hook))
    text = []
    with torch.no_grad():
        while len(text) < STEPS and text[-1:] != [END]:
            logits = model.model(input_ids=torch.tensor([prompt + text]), use_cache=False).logits
            text.append(int(logits[0, -1].argmax()))
    for handle in handles:
        handle.remove()
    return text


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_what_transformers_writes_prompt_by_prompt(family):
    model = talkative(family)
    texts = write_greedily(model, items(), over, 999)
    for prompt, (text,) in zip(prompts(), texts, strict=True):
        ids = torch.tensor([prompt])
        options = {"do_sample": False, "max_new_tokens": STEPS, "eos_token_id": END, "pad_token_id": 0}
        written = model.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert text == written[0, len(prompt) :].tolist()
    assert len({token for (text,) in texts for token in text}) > len(LENGTHS)


def test_equals_what_transformers_writes_with_the_demo_model():
    """A trained model, with prompts of several lengths from one of its tasks."""
    demo = ROOT / "workflow/resources/demo-model"
    model = load_model({"path": str(demo)})
    tokeniser = load_tokeniser(
        {"path": str(demo), "revision": None, "chat_template": False, "trust_remote_code": False}
    )
    lines = (ROOT / "config/tasks/inference.jsonl").read_text(encoding="utf-8").splitlines()[:60:5]
    asks = [tokeniser.encode(json.loads(line)["prompt"], True) for line in lines]
    assert len({len(ids) for ids in asks}) > 1
    texts = write_greedily(model, asked(asks, [4] * len(asks)), lambda _ids: False, 400)
    for ids, (text,) in zip(asks, texts, strict=True):
        given = torch.tensor([ids])
        options = {"do_sample": False, "max_new_tokens": 4, "pad_token_id": 0}
        written = model.model.generate(given, attention_mask=torch.ones_like(given), **options)
        assert text == written[0, len(ids) :].tolist()


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "bloom", "opt"])
def test_without_heads_equals_plain_passes_over_the_whole_text(family, positions):
    model = talkative(family)
    table = np.random.default_rng(3).normal(scale=4, size=(1, 3, 4, model.d_head)).astype(np.float32)
    texts = write_greedily(model, items(), over, 999, SETS, table, positions)
    for prompt, written in zip(prompts(), texts, strict=True):
        assert written == [plain_text(model, prompt, heads, table, positions) for heads in SETS]
    assert any(written[0] != other for written in texts for other in written[1:])


def test_texts_do_not_depend_on_what_shares_a_pass():
    model = talkative("llama")
    table = np.full((1, 3, 4, model.d_head), 0.3, np.float32)
    together = write_greedily(model, items(), over, 10**6, SETS, table)
    assert write_greedily(model, items(), over, 1, SETS, table) == together
    backwards = write_greedily(model, items()[::-1], over, 40, SETS[::-1], table)
    assert [written[::-1] for written in backwards[::-1]] == together


def test_a_prompt_with_less_room_gets_the_beginning_of_the_same_text():
    model = talkative("gpt2")
    long = write_greedily(model, items(), over, 999)
    steps = [1, 2, 3, 8, 8, 4, 5]
    short = write_greedily(model, asked(prompts(), steps), over, 999)
    assert short == [[text[:n]] for (text,), n in zip(long, steps, strict=True)]


def test_only_sets_with_the_planted_head_change_the_answer():
    model = find_heads(planted_model())
    others = [(layer, head) for layer in range(3) for head in range(4) if (layer, head) != PLANTED]
    repeated = asked([[token] * (3 + token) for token in range(8)], [3] * 8)
    zero = np.zeros((1, 3, 4, 8), np.float32)
    texts = write_greedily(model, repeated, lambda ids: False, 99, [[], others, [PLANTED]], zero)
    for token, written in enumerate(texts):
        assert written == [[token] * 3, [token] * 3, [0] * 3]  # without it all logits are equal; the first token wins


def test_where_padding_matters_only_prompts_of_one_length_share_a_batch(monkeypatch):
    """As of a model whose positions start with the padding."""
    model = talkative("gpt2")
    right = write_greedily(model, items(), over, 999)
    own = model.model.transformer.forward
    seen = []

    def counts_padding(*args, **options):
        seen.append(int((options["attention_mask"] == 0).sum()))
        del options["position_ids"]
        return own(*args, **options)

    monkeypatch.setattr(model.model.transformer, "forward", counts_padding)
    assert write_greedily(model, items(), over, 999) == right
    assert sum(padding > 0 for padding in seen) == 2  # the two passes of the test, over 13 positions and over the last


def test_texts_that_plain_passes_do_not_confirm_are_refused(monkeypatch):
    model = talkative("llama")
    monkeypatch.setattr(generation.Reader, "next_tokens", lambda reader: [5] * len(reader.unread))
    with pytest.raises(HeadAtlasError, match="are not the most probable ones of plain passes"):
        write_greedily(model, items(1), over, 999)


@pytest.mark.parametrize("kept", [(None, None), ("cache", StaticCache)])
def test_a_model_that_keeps_nothing_or_in_a_form_of_its_own_is_refused(kept):
    model = find_heads(random_model("llama"), "tiny")
    model.__dict__["_kept"] = kept
    with pytest.raises(HeadAtlasError, match="model tiny: returns no DynamicCache of keys and values"):
        write_greedily(model, items(), over, 999)
