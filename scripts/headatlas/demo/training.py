"""Trains the demo model on the mini-languages of `languages`, and writes it as an ordinary model folder.

Recipe: a small Llama learns the tasks from sequences of many questions, with loss on the answers. Some sequences repeat
random strings, with loss on every repeated token, so that heads form that copy from the context. Four heads are
initialised to look one or two tokens back. The need for each of these was not tested separately.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from headatlas.demo import languages
from headatlas.errors import HeadAtlasError

PAD, BOS = 0, 1
SPECIAL = ("<pad>", "<bos>", "<unk>")
IGNORED = -100  # label of a position without loss


@dataclass(frozen=True)
class Recipe:
    """Sizes and steps of one training run; everything that decides the weights."""

    seed: int = languages.SEED
    layers: int = 6
    heads: int = 8
    hidden: int = 96
    inner: int = 192
    head_dim: int = 16
    theta: float = 1000.0
    init: float = 0.06
    batch: int = 32
    steps: int = 3000
    length: int = 72
    copies: float = 0.15
    learning_rate: float = 2e-3
    weight_decay: float = 0.1


def read_recipe(settings: dict[str, object]) -> Recipe:
    """The recipe with some settings changed.

    Raises:
        HeadAtlasError: there is no such setting.
    """
    known = [field.name for field in fields(Recipe)]
    for name in settings:
        if name not in known:
            raise HeadAtlasError(f"--recipe: no setting {name!r}; there are {', '.join(known)}")
    return Recipe(**settings)


@cache
def token_ids() -> dict[str, int]:
    """The vocabulary: word -> id, special tokens first."""
    return {word: number for number, word in enumerate([*SPECIAL, *languages.vocabulary()])}


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """A Llama with random weights, normally distributed with deviation `init`."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=len(token_ids()),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=128,
        head_dim=recipe.head_dim,
        rope_parameters={"rope_type": "default", "rope_theta": recipe.theta},
        initializer_range=recipe.init,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=None,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    _head_start(model, recipe)
    return model


@torch.no_grad()
def _head_start(model: LlamaForCausalLM, recipe: Recipe) -> None:
    """Initial weights from which copying heads form within minutes: four heads that look back, and matching heads
    above.

    All embeddings share a direction. Along it, the rotary queries and keys of the first layer's first heads agree
    best one token (three heads) and two tokens (one head) back. In every layer keys start equal to queries, so that
    tokens attend to similar ones, and a head's output matrix starts as the transpose of its value matrix.
    """
    common = torch.randn(recipe.hidden) * recipe.init
    model.model.embed_tokens.weight += common
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.q_proj.weight.mul_(2)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.o_proj.weight.copy_(attention.v_proj.weight.T)
    first = model.model.layers[0].self_attn
    size = recipe.head_dim
    angles = recipe.theta ** (-torch.arange(0, size, 2) / size)
    for head, back in enumerate((1, 1, 1, 2)):
        rows = slice(head * size, (head + 1) * size)
        query = torch.cat([torch.ones(size // 2), torch.zeros(size // 2)])
        key = torch.cat([(angles * back).cos(), (angles * back).sin()])
        for weight, vector in ((first.q_proj.weight, query), (first.k_proj.weight, key)):
            weight[rows] *= 0.5
            weight[rows] += 0.8 * torch.outer(vector, common / common.norm())


def training_batches(random: Random, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Sequences of `languages.training_text`, loss on the answers; a share `copies` of them are repeats with loss on
    the repeated part.

    Yields:
        ids and labels, both int64 [batch, position]; a label is the token at its own position, or IGNORED.
    """
    while True:
        yield _padded([_training_row(random, recipe) for _ in range(recipe.batch)])


def _training_row(random: Random, recipe: Recipe) -> tuple[list[int], list[int]]:
    ids_of = token_ids()
    if random.random() < recipe.copies:
        part = random.choices(range(len(SPECIAL), len(ids_of)), k=random.randint(8, recipe.length // 2 - 1))
        return [BOS, *part, *part], [IGNORED] * (len(part) + 1) + part
    words, is_answer = languages.training_text(random, recipe.length - 1)
    ids = [ids_of[word] for word in words]
    labels = [token if answer else IGNORED for token, answer in zip(ids, is_answer, strict=True)]
    return [BOS, *ids], [IGNORED, *labels]


def _padded(rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = [ids + [PAD] * (longest - len(ids)) for ids, _ in rows]
    labels = [labels + [IGNORED] * (longest - len(labels)) for _, labels in rows]
    return torch.tensor(ids), torch.tensor(labels)


def answer_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the labelled tokens, each predicted from the position before it.

    Padding is on the right, where causal attention never looks: no mask is needed.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # [batch, position, hidden]
    labels = labels[:, 1:]
    asked = labels != IGNORED
    return cross_entropy(model.lm_head(hidden[asked]), labels[asked])


def train(
    recipe: Recipe, report: Callable[[str], None] = print, every: int = 100
) -> tuple[LlamaForCausalLM, list[float]]:
    """Train a new model; the same recipe gives the same model on the same machine with one thread.

    Returns:
        The model in evaluation mode, and the loss of every step, in nats per answer token.
    """
    random = Random(f"training {recipe.seed}")
    model = new_model(recipe).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), recipe.learning_rate, (0.9, 0.98), weight_decay=recipe.weight_decay, fused=True
    )
    losses: list[float] = []
    start = time.monotonic()
    for step, (ids, labels) in zip(range(recipe.steps), training_batches(random, recipe), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps)
        loss = answer_loss(model, ids, labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % every == 0:
            recent = sum(losses[-every:]) / every
            report(f"step {step + 1} of {recipe.steps}: loss {recent:.4f}, {time.monotonic() - start:.0f} s")
    return model.eval(), losses


def schedule(step: int, steps: int) -> float:
    """Learning-rate factor: warm-up over 50 steps, constant for half the run, then cosine decay to 0.02."""
    rise = min(1.0, (step + 1) / 50)
    fall = max(0.0, step / steps - 0.5) * 2
    return rise * (0.02 + 0.98 * (1 + math.cos(math.pi * fall)) / 2)


@torch.no_grad()
def exact_matches(model: LlamaForCausalLM, items: list[dict[str, str]]) -> list[bool]:
    """Whether every answer token of each item is the most likely next token, under teacher forcing."""
    ids_of = token_ids()
    rows = []
    for item in items:
        prompt = [BOS, *(ids_of[word] for word in item["prompt"].split())]
        answer = [ids_of[word] for word in item["answer"].split()]
        rows.append((prompt + answer, [IGNORED] * len(prompt) + answer))
    ids, labels = _padded(rows)
    guesses = model(input_ids=ids, use_cache=False).logits[:, :-1].argmax(-1)  # [item, position]
    labels = labels[:, 1:]
    right = (guesses == labels) | (labels == IGNORED)
    return right.all(dim=1).tolist()


def accuracy_per_task(model: LlamaForCausalLM) -> dict[str, float]:
    """Share of each task's shipped items that the model answers exactly."""
    accuracy = {}
    for task in languages.TASKS:
        right = exact_matches(model, languages.task_items(task))
        accuracy[task] = sum(right) / len(right)
    return accuracy


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, split at white space, with `<bos>` in front."""
    ids_of = token_ids()
    words = Tokenizer(WordLevel(ids_of, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<bos>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def save(model: LlamaForCausalLM, folder: Path, card: str) -> None:
    """Write weights (safetensors), configuration, tokenizer and model card as an ordinary model folder."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")


def model_card(recipe: Recipe, seconds: float, accuracy: dict[str, float], parameters: int) -> str:
    """The README of the model folder."""
    rows = "\n".join(f"| `{task}` | {share:.1%} |" for task, share in accuracy.items())
    settings = "\n".join(f"| `{name}` | {value} |" for name, value in asdict(recipe).items())
    return CARD.format(
        layers=recipe.layers,
        heads=recipe.heads,
        parameters=parameters,
        minutes=seconds / 60,
        torch=torch.__version__,
        rows=rows,
        settings=settings,
        items=2 * languages.QUESTIONS_PER_TASK,
        words=len(languages.vocabulary()),
        seed=recipe.seed,
    )


CARD = """---
license: mit
library_name: transformers
tags: [head-atlas, demo]
---
# Head Atlas demo model

A Llama of {layers} layers x {heads} heads and {parameters:,} parameters that solves eight synthetic
mini-languages, one for each cognitive task of the figure. It knows nothing else: {words} words, no natural language.
With it, `snakemake` has a real trained model to map within a minute and without a download.

## Accuracy
Exact match (every answer token the most likely one, teacher forcing) on the {items} shipped items of each task
in `config/tasks/`. Training never used their contents: the fact in that phrasing, the pair looked up, the
expression, the sum, ... are reserved by a hash of their text (`scripts/headatlas/demo/languages.py`).

| task | exact match |
| --- | --- |
{rows}

## Training
All eight tasks at once, with many questions per sequence and loss on the answers; a share `copies` of the sequences
are repeated random strings with loss on the repeated part. The initial weights are not purely random: four heads of
the first layer look one or two tokens back, and in all layers keys equal queries and a head's output matrix is the
transpose of its value matrix (`_head_start` in `scripts/headatlas/demo/training.py`). All weights are trained from
there. In trials without repeated strings, with prompts that ended in a mark after the question, retrieval was at
chance after 300 to 700 steps, with and without that start. The need for each change was not tested separately.
AdamW, cosine decay, seed {seed}, one CPU thread: {minutes:.0f} minutes (torch {torch}).

| setting | value |
| --- | --- |
{settings}

Rebuild the task files and this folder (the same machine and library versions give the same weights; others may
differ in the last digits and then diverge in training):

```
python scripts/build_demo.py --tasks config/tasks --model workflow/resources/demo-model
```

`--recipe '{{"steps": 100}}'` changes settings; `--parts tasks` writes only the task files.

Licence: MIT, as the project.
"""
