"""Operations of a model's passes, from the sizes in its config.json.

They are exact but for norms and biases where every layer has attention and a feed-forward part, gated (Llama, Qwen,
Gemma) or not (GPT); of experts, those that a token takes count. Other families are estimated as if they were Llamas.
"""

from headatlas.errors import HeadAtlasError
from headatlas.models.folder import HEADS, key_value_heads
from headatlas.models.memory import sizes
from headatlas.models.work import Work

# `model_type` of families whose feed-forward part is two matrices; a gate makes it three.
UNGATED = (
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "nemotron", "opt",
    "phi", "starcoder2",
)  # fmt: skip


class Arithmetic:
    """Floating-point operations of passes of one model.

    Args:
        config: the content of config.json; path: the model, for messages.

    Raises:
        HeadAtlasError: config.json lacks a size.
    """

    def __init__(self, config: dict, path: str):
        found, text = sizes(config), config.get("text_config") or config
        if missing := [name for name in ("hidden", "layers", "vocabulary") if found[name] is None]:
            raise HeadAtlasError(f"{path}: config.json gives no {missing[0]} size, so the cost cannot be planned")
        self.hidden, self.n_layers, self.vocabulary = found["hidden"], found["layers"], found["vocabulary"]
        self.n_heads = next((text[name] for name in HEADS if isinstance(text.get(name), int)), 1)
        self.d_head = text.get("head_dim") or self.hidden // self.n_heads
        self.n_keys = key_value_heads(text, self.n_heads)
        experts = text.get("num_experts_per_tok") or 1
        between = (text.get("moe_intermediate_size") if experts > 1 else None) or found["between"] or 4 * self.hidden
        matrices = 2 if text.get("model_type") in UNGATED else 3
        attention = self.hidden * self.d_head * (2 * self.n_heads + 2 * self.n_keys)
        self.layer_parameters = attention + experts * matrices * self.hidden * between

    @property
    def parameters(self) -> int:
        """Parameters that a token meets: all of a dense model without tied embeddings, but for norms and biases."""
        return self.n_layers * self.layer_parameters + 2 * self.vocabulary * self.hidden

    def operations(self, work: Work, products: int = 1) -> float:
        """Operations of some work: two for each parameter and position, and those of attention.

        Args:
            products: how many products one product of a whole pass takes; two where it is split into halves.
        """
        layers = 2 * self.layer_parameters * (products * work.whole + work.edited)
        attention = 4 * self.n_heads * self.d_head * work.context
        return layers + attention + 2 * self.hidden * self.vocabulary * work.logits
