"""Where there is nothing to find, no more heads than stated are called: the chain of each method on a null that holds."""

import math

import numpy as np
import pytest
import torch
import transformers as hf
from families import FAMILIES
from headatlas.ablation import ablate_layers
from headatlas.effects import attribution_from_terms
from headatlas.model import find_heads
from headatlas.statistics import benjamini_hochberg, head_statistics
from headatlas.trace import trace_task
from safetensors.numpy import load_file

WORDS, QUESTIONS, DATASETS, HEADS = 24, 40, 600, (3, 4)


def within_binomial(share: float, rate: float, n: int, errors: float = 3.5) -> bool:
    return abs(share - rate) <= errors * math.sqrt(rate * (1 - rate) / n)


# ----- ablation and attribution, on a model with random weights


def every_answer(prompts: np.ndarray) -> list[dict]:
    """Items [prompt x word] that give each prompt each word as its answer."""
    return [
        {
            "id": f"{row}-{word}", "question_id": str(row), "split": "score",
            "prompt_ids": prompt.tolist(), "answer_ids": [word],
        }
        for row, prompt in enumerate(prompts)
        for word in range(WORDS)
    ]  # fmt: skip


@pytest.fixture(scope="module", params=[5, 11], ids=["short prompts", "long prompts"])
def chances(request, tmp_path_factory):
    """A task of random prompts, two of the same words for each question, and what a random model makes of it.

    Returns:
        `clean` [prompt, word], the model's prediction; `ablated` [prompt, word, head], that without each head;
        `slope` [prompt, word, head], the attribution effects, whose baseline is the prompts' mean head output.
    """
    torch.manual_seed(0)
    config = FAMILIES["llama"]()
    config.vocab_size = WORDS
    network = hf.AutoModelForCausalLM.from_config(config).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(5)  # so that heads have effects to speak of
    model = find_heads(network)
    rng = np.random.default_rng(request.param)
    once = rng.integers(3, WORDS, (QUESTIONS, request.param))
    items = every_answer(np.stack([once, rng.permuted(once, axis=1)], axis=1).reshape(2 * QUESTIONS, -1))
    path = tmp_path_factory.mktemp("null") / "trace.safetensors"
    trace_task(model, items, path, 4096)
    trace = load_file(path)
    baseline = trace["head_output"].mean(0, keepdims=True)
    effect = ablate_layers(model, items, baseline, range(HEADS[0]), "answer", 4096)
    slope = attribution_from_terms(path, baseline, "answer")
    clean = trace["log_prob"].astype(float).reshape(-1, WORDS)
    effect, slope = (values.astype(float).reshape(len(clean), WORDS, -1) for values in (effect, slope))
    return np.exp(clean), np.exp(clean[..., None] - effect), slope


def drawn(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[dataset, prompt] words, each drawn from its prompt's chances [prompt, word]."""
    ends = chance.cumsum(1) / chance.sum(1, keepdims=True)
    return (rng.random((DATASETS, len(chance), 1)) > ends).sum(-1)


def p_values(effects: np.ndarray) -> np.ndarray:
    """[dataset, head] of effects [dataset, prompt, head], two prompts a question, each dataset on its own."""
    columns = np.moveaxis(effects, 0, 1).reshape(effects.shape[1], -1)
    questions = np.repeat(np.arange(QUESTIONS), 2)
    options = {"resamples": 2, "permutations": 4000, "confidence": 0.95, "seed": (0, 0)}
    return head_statistics(columns, questions, **options).p_value.reshape(len(effects), -1)


def assert_nominal(p: np.ndarray) -> None:
    """Each head is called as often as stated, and hardly a dataset has a head that passes q < 0.05."""
    for level in (0.05, 0.2):
        for share in (p <= level).mean(0):
            assert within_binomial(share, level, DATASETS), (level, share)
    called = np.mean([(benjamini_hochberg(row) < 0.05).any() for row in p])
    assert called <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / DATASETS)


def test_attribution_calls_the_nominal_share_of_heads_of_a_random_model(chances):
    """The null: answers drawn from what the model itself predicts.

    A head of a random model has real effects, and on answers that have nothing to do with the prompts they do not
    average to zero: what the head does to the words' chances is better or worse for evenly drawn words. But the
    gradient of a log-probability averages to zero over words drawn with that very probability, whatever the prompt,
    the head and the baseline; so each question's expected effect is exactly zero.
    """
    clean, _, slope = chances
    assert clean.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.abs(slope).max() > 0.1
    assert np.abs(np.einsum("pw,pwh->ph", clean, slope)).max() < 1e-4  # the null holds, prompt by prompt
    words = drawn(clean, np.random.default_rng(0))
    assert_nominal(p_values(slope[np.arange(len(clean)), words]))


def test_ablation_calls_the_nominal_share_of_heads_of_a_random_model(chances):
    """The null: answers that the model predicts equally well with and without the head.

    No one set of answers is such for all heads of a model at once: on words drawn from its own prediction p every
    head helps, by the divergence of p from q, the prediction without the head. So each head gets answers of its own,
    drawn from the mixture of p and q that both predict equally well; its expected effect is then exactly zero on
    each prompt, though it is far from zero on most words.
    """
    clean, ablated, _ = chances
    assert ablated.sum(1) == pytest.approx(1, abs=1e-5)
    effect = np.log(clean[..., None] / ablated)
    gain = np.einsum("pw,pwh->ph", clean, effect)  # with the head, on words of the whole model
    loss = -np.einsum("pwh,pwh->ph", ablated, effect)  # without it, on words of the model without the head
    share = (loss / (gain + loss))[:, None]
    mixture = share * clean[..., None] + (1 - share) * ablated
    assert np.abs(np.einsum("pwh,pwh->ph", mixture, effect)).max() < 1e-9
    rows, rng = np.arange(len(clean)), np.random.default_rng(0)
    columns = [effect[rows, drawn(mixture[..., head], rng), head] for head in range(math.prod(HEADS))]
    assert_nominal(p_values(np.stack(columns, axis=-1)))


def test_the_chain_is_not_blind(chances):
    """The same model, prompts and tests call many heads where there is something: the words the model likes best."""
    clean, ablated, _ = chances
    effect = np.log(clean[..., None] / ablated)[np.arange(len(clean)), clean.argmax(1)]
    assert (p_values(effect[None]) <= 0.05).mean() > 0.3
