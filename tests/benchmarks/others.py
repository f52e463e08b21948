"""The other side of each comparison of `bench.py`: what a researcher would use instead, and the bare arithmetic.

Written plainly and without the library's fast ways; the models are random Llamas, the items random tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
import torch
from headatlas.models.batches import Batch, score_answers
from headatlas.models.head_model import HeadModel, find_heads
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig


def llama(layers: int, heads: int, hidden: int = 256, dtype=torch.float32, device: str = "cpu", **more) -> HeadModel:
    """A random Llama; `more` overrides the config."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 512,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 512,
        "initializer_range": 0.05,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }
    with torch.device(device):
        network = AutoModelForCausalLM.from_config(LlamaConfig(**shape | more), dtype=dtype)
    return find_heads(network)


def make_items(count: int, prompt: int, answer: int, vocabulary: int, seed: int = 0) -> list[dict]:
    """Items of random tokens, all of one length so that no side pays for padding."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": str(index),
            "question_id": str(index),
            "split": "score",
            "prompt_ids": rng.integers(1, vocabulary, prompt).tolist(),
            "answer_ids": rng.integers(1, vocabulary, answer).tolist(),
        }
        for index in range(count)
    ]


# --- one hooked pass per head ---------------------------------------------------------------------------------


def hooked_forwards(
    model: HeadModel, batch: Batch, positions: str, layers: range, heads: range | None = None
) -> np.ndarray:
    """(a) What a researcher writes: one hooked forward pass of plain transformers per head; zero ablation.

    Args:
        heads: of each layer, all if None.

    Returns:
        [item, layer of `layers`, head], nats per answer token; 0 for other heads.
    """
    network = model.model

    def log_prob() -> torch.Tensor:
        logits = batch.gather(network(input_ids=batch.input_ids, use_cache=False).logits)
        return score_answers(logits, batch)[0]

    start = int(batch.positions.min()) if positions == "answer" else 0
    effects = np.zeros((len(batch), len(layers), model.n_heads), np.float32)
    with torch.no_grad():
        clean = log_prob()
        for layer in layers:
            for head in heads or range(model.n_heads):
                columns = slice(head * model.d_head, (head + 1) * model.d_head)

                def hook(_module, args, columns=columns):
                    z = args[0].clone()
                    z[:, start:, columns] = 0
                    return (z,)

                handle = model.attentions[layer].projection.register_forward_pre_hook(hook)
                effects[:, layer - layers.start, head] = (clean - log_prob()).numpy()
                handle.remove()
    return effects


def lens_of(model: HeadModel):
    """The model in TransformerLens' bridge, which changes it: it cannot serve another side afterwards.

    Raises:
        ImportError: TransformerLens (extra `bench`) is not installed.
    """
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        "headatlas/bench", hf_model=model.model, tokenizer=lens_tokenizer(), device="cpu"
    )


def lens_tokenizer():
    """A tokenizer of 512 words, which TransformerLens requires."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({str(i): i for i in range(512)}, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="2", pad_token="3", unk_token="0")


def lens_forwards(
    bridge, model: HeadModel, batch: Batch, layers: range, positions: str = "answer", heads: range | None = None
) -> np.ndarray:
    """(b) The same job in TransformerLens: one pass per head with a hook on `hook_z`.

    Args:
        heads: of each layer, all if None.

    Returns:
        [item, layer of `layers`, head], nats per answer token; 0 for other heads.
    """
    start = int(batch.positions.min()) if positions == "answer" else 0
    effects = np.zeros((len(batch), len(layers), model.n_heads), np.float32)

    def log_prob(hooks: list) -> torch.Tensor:
        logits = batch.gather(bridge.run_with_hooks(batch.input_ids, return_type="logits", fwd_hooks=hooks))
        return score_answers(logits, batch)[0]

    with torch.no_grad():
        clean = log_prob([])
        for layer in layers:
            for head in heads or range(model.n_heads):

                def zero(z, hook, head=head):
                    z[:, start:, head] = 0
                    return z

                drop = clean - log_prob([(f"blocks.{layer}.attn.hook_z", zero)])
                effects[:, layer - layers.start, head] = drop.numpy()
    return effects


# --- the bare arithmetic --------------------------------------------------------------------------------------


def answer_floor(model: HeadModel, batch: Batch) -> None:
    """(c) Prompt forward once, then the answer tokens of every head's row through the layers from its own on."""
    bare_forward(model, batch)
    rows_floor(model, batch, [model.n_heads] * model.n_layers)


def rows_floor(model: HeadModel, batch: Batch, entering: Sequence[int]) -> None:
    """The answer tokens of edited rows, as plain layer calls: `entering[layer]` rows of each item join at that layer.

    They attend to nothing but themselves, which is less than they must do. A call takes some 512 positions, because
    more leave a CPU's caches.
    """
    base, (items, width) = model.model.model, batch.positions.shape
    rows = torch.randn(items * sum(entering), width, base.config.hidden_size)
    with torch.no_grad():
        rotary = base.rotary_emb(rows, position_ids=torch.arange(width)[None])
        for layer, joined in zip(base.layers, accumulate(entering), strict=True):
            parts = [
                layer(part, position_embeddings=rotary, attention_mask=None)
                for part in rows[: items * joined].split(max(1, 512 // width))
                if len(part)
            ]
        for part in parts:
            model.model.lm_head(base.norm(part))


def everywhere_floor(model: HeadModel, batch: Batch) -> None:
    """(c) Forward once, then each head's rows through the layers above it, whole sequences, as plain layer calls.

    A call takes some 512 positions, or those of one head: more leave a CPU's caches and take longer.
    """
    base, (items, length) = model.model.model, batch.input_ids.shape
    at_once = max(1, 512 // (items * length))
    width = batch.positions.shape[1]
    with torch.no_grad():
        base(input_ids=batch.input_ids, use_cache=False)
        rotary = base.rotary_emb(torch.zeros(1), position_ids=torch.arange(length)[None])
        for layer in range(model.n_layers):
            for first in range(0, model.n_heads, at_once):
                heads = min(at_once, model.n_heads - first)
                rows = torch.randn(items * heads, length, base.config.hidden_size)
                rows = base.layers[layer].mlp(rows)
                for above in base.layers[layer + 1 :]:
                    rows = above(rows, position_embeddings=rotary, attention_mask=None)
                model.model.lm_head(base.norm(rows[:, -width:]))


def bare_forward(model: HeadModel, batch: Batch) -> torch.Tensor:
    """Forward alone, logits where the answer is."""
    with torch.no_grad():
        return model.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=_since_answers(batch)).logits


def bare_backward(model: HeadModel, batch: Batch) -> None:
    """Forward and backward of the answer's log-probability down to the embeddings, no parameter gradients."""
    inputs = model.model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    kept = _since_answers(batch)
    logits = model.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=kept).logits
    within = replace(batch, positions=batch.positions - (batch.input_ids.shape[1] - kept))
    score_answers(within.gather(logits), batch)[0].sum().backward()


def _since_answers(batch: Batch) -> int:
    """How many of the last positions hold all answer positions."""
    return batch.input_ids.shape[1] - int(batch.positions.min())


# --- the probe ------------------------------------------------------------------------------------------------


def planted_outputs(layers: int = 8, heads: int = 8, width: int = 32) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Head outputs of 8 classes x 64 items: noise of very different sizes, in which six heads know the class.

    Returns:
        outputs [item, layer, head, width] float32, labels [item], the question of each item (all different).
    """
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 64)
    outputs = rng.normal(size=(len(labels), layers, heads, width))
    for place in rng.choice(layers * heads, 6, replace=False):
        outputs[:, place // heads, place % heads] += 0.6 * rng.normal(size=(8, width))[labels]
    outputs *= 10 ** rng.uniform(-2, 0, (layers, heads, 1))
    return outputs.astype(np.float32), labels, [str(index) for index in range(len(labels))]


def original_probe(
    outputs: np.ndarray, labels: np.ndarray, held: np.ndarray, dimensions: int, hidden: int, epochs: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """The probe as Cognitive Mirrors (arXiv 2512.10978) trained it, one seed, scored on the `held` items.

    AdamW 1e-4, 100 epochs, one item a step in the order given, nothing standardised.

    Returns:
        importance [held item, layer, head] (gradient times activation), predicted class [held item].
    """
    torch.manual_seed(0)
    z = torch.from_numpy(outputs)
    joined = torch.cat([z, z.mean(2, keepdim=True).expand_as(z)], dim=-1)  # [item, layer, head, 2 * d_head]
    target = torch.from_numpy(labels)
    n_layers, n_heads, width = outputs.shape[1:]
    shared = nn.Linear(2 * width, dimensions)
    rest = nn.Sequential(
        nn.Linear(n_layers * n_heads * dimensions, hidden), nn.ReLU(), nn.Linear(hidden, int(target.max()) + 1)
    )
    optimiser = torch.optim.AdamW([*shared.parameters(), *rest.parameters()], lr=1e-4)
    for _epoch in range(epochs):
        for row in np.flatnonzero(~held):
            loss = nn.functional.cross_entropy(rest(shared(joined[row]).flatten())[None], target[row : row + 1])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    importance, predicted = [], []
    for row in np.flatnonzero(held):
        features = shared(joined[row]).detach().requires_grad_()
        logits = rest(features.flatten())
        (slope,) = torch.autograd.grad(logits[target[row]], features)
        importance.append((slope * features).mean(-1).detach().numpy())
        predicted.append(int(logits.argmax()))
    return np.stack(importance), np.array(predicted)
