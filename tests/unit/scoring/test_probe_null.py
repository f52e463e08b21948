"""Where there is nothing to find, no more heads than stated are called: each method's chain on a null that holds."""

import math

import numpy as np
import pytest
import torch
import transformers as hf
from families import FAMILIES
from headatlas.files.effects import attribution_from_terms
from headatlas.models.head_model import find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.probe import fit_probes
from headatlas.scoring.probe_null import gather_null, permuted_labels
from headatlas.scoring.trace import trace_task
from headatlas.stats.head_statistics import head_statistics, studentised
from headatlas.stats.multiple_testing import benjamini_hochberg
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
    effect, _ = ablate_layers(model, items, baseline, range(HEADS[0]), "answer", 4096)
    slope = attribution_from_terms(path, baseline, "answer")
    clean = trace["score"].astype(float).reshape(-1, WORDS)
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
    return head_statistics(columns, questions, confidence=0.95).p_value.reshape(len(effects), -1)


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


# ----- the probe, refitted on permuted labels

PROBE = {
    "seeds": 3, "dimensions": 4, "hidden": 8, "epochs": 20, "batch_size": 64, "learning_rate": 0.005,
    "weight_decay": 0.01, "patience": 3, "standardise": True,
}  # fmt: skip
EXPERIMENTS, LABELS = 40, 3


def noise(rng: np.random.Generator, items: tuple[int, ...] = (70, 50, 40)) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Head outputs [item, 2 layers, 3 heads, 4] without label information, two equal ones per question.

    The heads differ as they can: in scale by a factor of a million, one has one direction only, one never varies.
    """
    labels = np.repeat(np.arange(LABELS), items)
    question = np.arange(len(labels)) // 2
    outputs = rng.normal(size=(len(labels), 2, 3, 4)) + rng.normal(size=(len(labels), 2, 3, 4))[question]
    outputs *= np.array([[1, 1000, 0.001], [1, 1, 0]])[..., None]
    outputs[:, 1, 1] = outputs[:, 1, 1, :1]
    return outputs.astype(np.float32), labels, [f"q{q}" for q in question]


def probe_p_values(outputs, labels, questions, refits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[label, head] p-values of the probe's effects by its refits and, instead, by its own spread."""
    permuted = permuted_labels(labels, questions, refits, seed)
    fits = fit_probes(outputs, [labels, *permuted], questions, PROBE, seed)
    effect = next(fits).effect.reshape(len(labels), -1)
    kept, _ = gather_null(zip(permuted, fits, strict=True), questions, np.ones(len(labels)), labels.max() + 1)
    index = np.unique(questions, return_inverse=True)[1]
    both = []
    for null in (True, False):
        rows = []
        for label, tensors in enumerate(kept):
            draws = studentised(tensors["null_effect_all"], tensors["null_error_all"]).reshape(refits, -1)
            chosen = labels == label
            found = head_statistics(effect[chosen], index[chosen], confidence=0.95, null=draws if null else None)
            rows.append(found.p_value)
        both.append(np.stack(rows))
    return tuple(both)


def test_the_probe_calls_at_most_the_nominal_share_of_heads_on_labels_without_information():
    """By its refits; Student's and Hall's t would call too many, as offsets of the linear map look like effects."""
    found = [probe_p_values(*noise(np.random.default_rng(run)), refits=4, seed=run) for run in range(EXPERIMENTS)]
    by_refits, by_spread = (np.stack(values) for values in zip(*found, strict=True))
    most = 0.05 + 3 * math.sqrt(0.05 * 0.95 / (EXPERIMENTS * LABELS))  # heads of one fit hang together: they are one
    assert (by_refits <= 0.05).mean() <= most
    assert (by_spread <= 0.05).mean() > most
    assert (by_refits <= 0.2).mean() == pytest.approx(0.2, abs=0.08)  # nor does it call too few
    called = [(benjamini_hochberg(row) < 0.05).any() for experiment in by_refits for row in experiment]
    assert np.mean(called) <= most


def test_a_planted_head_alone_is_called():
    """With 24 refits. Heads of the other layer know nothing; that the probe has learnt from another head than they are
    is no part of the null, so they are called now and then, but seldom.
    """
    q_values = []
    for run in range(3):
        outputs, labels, questions = noise(np.random.default_rng(run), (140, 120, 100))
        outputs[:, 0, 0] += 8 * np.eye(LABELS, 4)[labels]
        p, _ = probe_p_values(outputs, labels, questions, 24, run)
        assert (p[:, 0] == 1 / (24 * 6 + 1)).all()
        q_values += [benjamini_hochberg(row) for row in p]
    called = np.array(q_values) < 0.05
    assert called[:, 0].all()
    assert called[:, 3:].mean() < 0.15
