"""Evidence as scatter plots, one panel per task: effects of the hottest heads when patched from two other prompts."""

import altair as alt
import polars as pl

from headatlas.charts import palette
from headatlas.charts.frame import Words
from headatlas.charts.rows import checked
from headatlas.charts.scatter import NAMED, Effects, Kinds, scatter_grid
from headatlas.charts.wanted import Wanted
from headatlas.evidence.summary import LEVEL

CARRIES = {
    "answer": "the answer",
    "question": "the question",
    "": "undecided",
}  # table -> legend
ACROSS = Effects("counterfactual", "From the counterfactual")
UPWARD = Effects("same_answer", "From the same answer")
CARRIED = Kinds("carries", "The head carries", dict(zip(CARRIES.values(), palette.CARRIED, strict=True)))


def same_answer(tables: list[pl.DataFrame], wanted: Wanted) -> dict:
    """Effect of each hot head, patched from the counterfactual and from another question with the same answer.

    Args:
        tables: the same-answer table.
    """
    columns = ["rank", "layer", "head", *ACROSS.columns, *UPWARD.columns, "p_adjusted", "carries"]
    heads = checked(tables[0], "same-answer", columns, task=wanted.tasks).with_columns(
        pl.col("carries").fill_null("").replace_strict(CARRIES),
        name=pl.format("{}.{}", "layer", "head"),
        label=wanted.label_column(),
    )
    tooltip = [
        alt.Tooltip("label:N", title="Task"),
        alt.Tooltip("name:N", title="Layer.head"),
        alt.Tooltip("rank:Q", title="Rank by ablation", format="d"),
        alt.Tooltip("carries:N", title="Carries"),
        *ACROSS.tooltip(wanted.unit),
        *UPWARD.tooltip(wanted.unit),
        alt.Tooltip("p_adjusted:Q", title="p of the difference (Holm)", format=".3g"),
    ]
    words = Words(
        f"What the hottest attention heads of {wanted.named} carry",
        "Effect of one head on held-out questions, when its output comes from the counterfactual prompt, which has "
        "another answer (across), and from another question with the same answer (upward). Heads near the horizontal "
        "line carry the token of the answer; heads near the diagonal what is particular to the question.",
        f"Heads are the hottest by exact ablation, the first {NAMED} with layer.head. Bars: {wanted.interval}. "
        f"Colours: Holm-adjusted p < {LEVEL}.",
        "Effect of the hottest heads patched from two other prompts",
    )
    return wanted.finish(scatter_grid(wanted, heads, ACROSS, UPWARD, CARRIED, tooltip), words, wanted.grid_width)
