"""Exact effect of replacing, together, all query heads that share one key-value head (grouped-query attention)."""

from collections.abc import Callable

import numpy as np

from headatlas.errors import HeadAtlasError
from headatlas.models.engine import Report
from headatlas.models.head_model import HeadModel
from headatlas.models.hooked import Heads
from headatlas.models.replacement import Baseline
from headatlas.scoring.knock_out import knock_out


def ablate_groups(
    model: HeadModel,
    items: list[dict],
    baseline: np.ndarray | Baseline,
    n_groups: int,
    positions: str,
    batch_tokens: int,
    advance: Callable[[int], None] = lambda _n: None,
    engine: str = "auto",
) -> tuple[np.ndarray, Report]:
    """Drop in the answer's score when all query heads of one key-value head output their baselines.

    A group's effect differs from the sum of its members' by what they do together: more if they back each other up,
    less if they do the same work one after another.

    Args:
        items: tokenised items; n_groups: key-value heads of a layer.
        baseline, positions, batch_tokens, engine: as in `ablation.ablate_layers`.
        advance: called with the number of scores (items x (groups + 1)) that a pass computed.

    Returns:
        [item, layer, group] float32, nats (`batches.score_answers`); NaN in layers without attention. And the report of
        the engine.

    Raises:
        HeadAtlasError: the model's modules state another number of groups; or as in `engine.run_checked`.
    """
    check_groups(model, n_groups)
    groups = [heads for layer in model.attention_layers for heads in group_members(layer, model.n_heads, n_groups)]
    score, _, report = knock_out(model, items, [[], *groups], baseline, positions, batch_tokens, advance, engine)
    effects = np.full((len(items), model.n_layers, n_groups), np.nan, np.float32)
    effects[:, model.attention_layers] = (score[:1] - score[1:]).T.reshape(len(items), -1, n_groups)
    return effects, report


def group_members(layer: int, n_heads: int, n_groups: int) -> list[Heads]:
    """The heads of each group: transformers gives consecutive query heads the same keys and values (`repeat_kv`)."""
    size = n_heads // n_groups
    return [tuple((layer, head) for head in range(first, first + size)) for first in range(0, n_heads, size)]


def check_groups(model: HeadModel, n_groups: int) -> None:
    """Compare the number of groups in the model's config with what its attention modules state.

    Raises:
        HeadAtlasError: they differ.
    """
    for layer in model.attention_layers:
        attention = model.attentions[layer]
        size = getattr(attention.module, "num_key_value_groups", None)
        if isinstance(size, int) and size * n_groups != model.n_heads:
            raise HeadAtlasError(
                f"model {model.name}: config.json states {n_groups} key-value heads a layer, but {attention.name} "
                f"shares one among {size} of {model.n_heads} heads; set evidence.groups: false"
            )
