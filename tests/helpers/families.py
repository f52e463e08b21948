"""Tiny random models of many families, items for them, and a planted model: what the torch tests share."""

import numpy as np
import torch
import transformers as hf

VOCABULARY = 97
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_WIDE = {**_GROUPED, "head_dim": 16}  # 4 heads x 16 is not the hidden size: the head width must come from the model
_FALCON = {key: _SHAPE[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}

FAMILIES = {
    "llama": lambda: hf.LlamaConfig(**_GROUPED),
    "mistral": lambda: hf.MistralConfig(**_GROUPED, sliding_window=4),
    "qwen2": lambda: hf.Qwen2Config(**_GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**_WIDE),
    "gemma2": lambda: hf.Gemma2Config(**_WIDE, sliding_window=4),
    "gemma3": lambda: hf.Gemma3TextConfig(
        **_WIDE, sliding_window=4, layer_types=["sliding_attention", "full_attention", "sliding_attention"]
    ),
    "phi": lambda: hf.PhiConfig(**_SHAPE),
    "phi3": lambda: hf.Phi3Config(**_GROUPED),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**_SHAPE),
    "opt": lambda: hf.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
    ),
    "falcon": lambda: hf.FalconConfig(**_FALCON, bos_token_id=1, eos_token_id=2),
    "falcon_alibi": lambda: hf.FalconConfig(**_FALCON, alibi=True, parallel_attn=False, bos_token_id=1, eos_token_id=2),
    "bloom": lambda: hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4),
    "starcoder2": lambda: hf.Starcoder2Config(**_GROUPED),
    "olmo2": lambda: hf.Olmo2Config(**_GROUPED),
    "mixtral": lambda: hf.MixtralConfig(**_GROUPED, num_local_experts=4),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(**_WIDE, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24),
}


def random_model(family: str, attention: str | None = None) -> torch.nn.Module:
    """A random model whose matrices are three times as large as usual, so that heads have effects to speak of."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    config._attn_implementation = attention
    model = hf.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)
    return model


def random_items(lengths: list[tuple[int, int]], seed: int = 0) -> list[dict]:
    """Tokenised items with prompts and answers of the given lengths, each of its own question."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"item{index}",
            "question_id": f"question{index}",
            "split": "score",
            "prompt_ids": rng.integers(3, VOCABULARY, prompt).tolist(),
            "answer_ids": rng.integers(3, VOCABULARY, answer).tolist(),
        }
        for index, (prompt, answer) in enumerate(lengths)
    ]


PLANTED = (1, 2)  # (layer, head) of the planted model that carries the answer


def planted_model(scale: float = 8.0, groups: int = 4, heads: tuple[int, ...] = PLANTED[1:]) -> torch.nn.Module:
    """A Llama of 3 layers x 4 heads, 8 tokens, in which one head alone carries the answer.

    The residual stream has 16 dimensions for the token read and 8 for the prediction. Attention is uniform
    (queries and keys are zero); the planted head's values are the tokens, averaged over the context, and its
    output writes them where the output layer reads. All other heads read the tokens too, but what they write
    is multiplied with zero. There is no MLP to speak of (its output weights are zero).

    Args:
        groups: key-value heads of a layer; heads: those of the planted head's layer that do this work, each by itself.
    """
    config = hf.LlamaConfig(
        vocab_size=8,
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=groups,
        head_dim=8,
        max_position_embeddings=32,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()[:, :8] = torch.eye(8)
        model.lm_head.weight.zero_()[:, 24:] = scale * torch.eye(8)
        for layer in model.model.layers:
            layer.mlp.down_proj.weight.zero_()
            layer.self_attn.q_proj.weight.zero_()
            layer.self_attn.k_proj.weight.zero_()
            layer.self_attn.o_proj.weight.zero_()
        attention = model.model.layers[PLANTED[0]].self_attn
        for head in heads:
            first = 8 * (head * groups // 4)  # of the values that this head reads
            attention.v_proj.weight[first : first + 8] = 0
            attention.v_proj.weight[first : first + 8, :8] = torch.eye(8)
            attention.o_proj.weight[24:, 8 * head : 8 * head + 8] = torch.eye(8)
    return model


TEAM = ((1, 1), (1, 2))  # heads of the planted team that back each other up
HINDERING = (1, 0)


def planted_team(scale: float = 5.5) -> torch.nn.Module:
    """As `planted_model`, but two heads write the answer, each enough alone, and a third one writes against it.

    The final norm divides by what the heads write, so a second head adds little to the first. At the default scale the
    answer's probability rounds to 1 with either of the two, whether or not the third one hinders: the effect of every
    single head is exactly 0. At a tenth of it, all three have effects.
    """
    model = planted_model(scale)
    with torch.no_grad():
        attention = model.model.layers[1].self_attn
        for (_, head), amount in ((TEAM[0], 0.25), (TEAM[1], 0.25), (HINDERING, -0.0625)):
            rows = slice(8 * head, 8 * head + 8)
            attention.v_proj.weight[rows] = 0
            attention.v_proj.weight[rows, :8] = torch.eye(8)
            attention.o_proj.weight[24:, rows] = amount * torch.eye(8)
    return model


def planted_items() -> list[dict]:
    """The answer is the token that fills the context, so that the planted head's average points at it."""
    return [
        {
            "id": str(token),
            "question_id": str(token),
            "split": "score",
            "prompt_ids": [token] * (3 + token),
            "answer_ids": [token] * (1 + token % 3),
        }
        for token in range(8)
    ]


def plain_log_prob(model: torch.nn.Module, item: dict) -> torch.Tensor:
    """Answer log-probability of one item, alone and unpadded, the plain way: nats per answer token."""
    ids = torch.tensor([item["prompt_ids"] + item["answer_ids"]])
    log_probs = model(input_ids=ids).logits[0].float().log_softmax(-1)
    start = len(item["prompt_ids"])
    steps = [log_probs[start - 1 + i, token] for i, token in enumerate(item["answer_ids"])]
    return torch.stack(steps).mean()


def plain_effect(
    model: torch.nn.Module, projection: torch.nn.Module, item: dict, columns: slice, value, positions: str
) -> float:
    """Effect of one head on one item by one hooked forward pass, written without the library."""
    start = len(item["prompt_ids"]) - 1 if positions == "answer" else 0

    def hook(_module, args):
        z = args[0].clone()
        z.view(1, -1, z.shape[-1])[:, start:, columns] = torch.as_tensor(value, dtype=z.dtype)
        return (z, *args[1:])

    with torch.no_grad():
        clean = plain_log_prob(model, item)
        handle = projection.register_forward_pre_hook(hook)
        ablated = plain_log_prob(model, item)
        handle.remove()
    return float(clean - ablated)


def plain_scores(model, item, heads, baseline, positions):
    """Log-probability and exact match of one item with `heads` replaced, by hooks written without the library."""
    start = len(item["prompt_ids"]) - 1 if positions == "answer" else 0
    handles = []
    for layer, attention in enumerate(model.attentions):
        chosen = [head for edited, head in heads if edited == layer]

        def hook(_module, args, chosen=chosen, layer=layer, width=attention.d_head):
            z = args[0].clone()
            flat = z.view(1, -1, z.shape[-1])
            for head in chosen:
                flat[:, start:, head * width : (head + 1) * width] = torch.tensor(baseline[0, layer, head])
            return (z, *args[1:])

        handles.append(attention.projection.register_forward_pre_hook(hook))
    ids = torch.tensor([item["prompt_ids"] + item["answer_ids"]])
    with torch.no_grad():
        log_prob = float(plain_log_prob(model.model, item))
        best = model.model(input_ids=ids).logits[0].argmax(-1)[len(item["prompt_ids"]) - 1 : -1].tolist()
    for handle in handles:
        handle.remove()
    return log_prob, best == item["answer_ids"]


def planted_chain() -> torch.nn.Module:
    """As `planted_model`, but head (0, 1) writes the token where head (2, 3) alone reads it, and that head answers."""
    model = planted_model()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
        for (layer, head), read, write in (((0, 1), 0, 8), ((2, 3), 8, 24)):
            attention = model.model.layers[layer].self_attn
            rows = slice(8 * head, 8 * head + 8)
            attention.v_proj.weight[rows] = 0
            attention.v_proj.weight[rows, read : read + 8] = torch.eye(8)
            attention.o_proj.weight[write : write + 8, rows] = torch.eye(8)
    return model
