"""Lists of heads for other programs, chosen from one method's map of a task; polars."""

import polars as pl

from headatlas.evidence.importance import with_heads
from headatlas.evidence.summary import LEVEL

ENTRY = ("layer", "head", "effect", "ci_low", "ci_high", "q_value", "rank")


def top_heads(rows: pl.DataFrame, most: int) -> tuple[list[dict], dict]:
    """The most important heads, however few they are worth.

    Args:
        rows: of the importance table, those of one method and task; most: how many heads to list.

    Returns:
        the heads (`ENTRY`), most important first; and how they were chosen.
    """
    ranked = with_heads(rows).sort("rank")
    return _entries(ranked.head(most)), {"by": "top", "top": most}


def significant_heads(rows: pl.DataFrame) -> tuple[list[dict], dict]:
    """The heads whose q-value lies below `LEVEL`, most important first; otherwise as `top_heads`."""
    ranked = with_heads(rows).sort("rank")
    return _entries(ranked.filter(pl.col("q_value") < LEVEL)), {"by": "significant", "q_below": LEVEL}


def sufficient_heads(
    rows: pl.DataFrame, curve: pl.DataFrame, sets: list[dict], faithfulness: float
) -> tuple[list[dict], dict]:
    """The smallest set of top heads that, kept alone, reaches a faithfulness on held-out questions.

    Args:
        rows: as in `top_heads`; curve: the rows of `evidence/sufficiency.parquet` for this method and task.
        sets: of this method and task, as `knock_out_sets.keep_top` makes them.
        faithfulness: from 0 (no head kept) to 1 (all heads).

    Returns:
        the heads that help most first, none where the faithfulness is undefined; and how they were chosen, with the
        faithfulness `reached`.
    """
    signed = curve.filter(ranking="signed").sort("k")
    chosen = {"by": "keep", "faithfulness": faithfulness, "reached": None}
    enough = signed.filter(pl.col("faithfulness") >= faithfulness)
    if enough.is_empty():
        return [], chosen
    k, reached = enough.select("k", "faithfulness").row(0)
    (kept,) = [one["heads"] for one in sets if (one["kind"], one["selection"], one["k"]) == ("keep", "signed", k)]
    order = pl.DataFrame(kept, schema={"layer": pl.Int32, "head": pl.Int32}, orient="row")
    return _entries(order.join(rows, on=["layer", "head"], how="left", maintain_order="left")), chosen | {
        "reached": reached
    }


def _entries(rows: pl.DataFrame) -> list[dict]:
    return rows.select(ENTRY).to_dicts()
