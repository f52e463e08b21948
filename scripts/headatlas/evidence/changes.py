"""Two runs compared head by head: another checkpoint, number format, template or sample of questions; polars."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.summary import LEVEL
from headatlas.stats.difference import Compared, Sample, compare
from headatlas.stats.multiple_testing import benjamini_hochberg
from headatlas.stats.ranking import correlation, overlap, rank_correlation, top, top_count

KINDS = ("stronger", "weaker", "turned", "came", "went")
HEADS = (
    {"method": pl.String, "task": pl.String, "compared_to": pl.String}
    | dict.fromkeys(("layer", "head"), pl.Int32)
    | dict.fromkeys(("effect", "q_effect", "other", "q_other"), pl.Float64)
    | dict.fromkeys(("difference", "ci_low", "ci_high", "p_value", "q_value"), pl.Float64)
    | {"change": pl.String}
)
MAPS = (
    {"method": pl.String, "task": pl.String, "compared_to": pl.String}
    | dict.fromkeys(("correlation", "rank_correlation", "overlap"), pl.Float64)
    | dict.fromkeys(("k", "heads", "tested", *KINDS), pl.Int32)
    | {"paired": pl.Boolean, "n_items": pl.Int32, "n_questions": pl.Int32}
)


class Pair(NamedTuple):
    """One method and task in two runs; `effects` of the samples are [item, layer, head], NaN without attention."""

    first: Sample
    second: Sample


def changes(
    pairs: Mapping[tuple[str, str], Pair], compared_to: str, confidence: float, share: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """How the maps of a model differ from those of another with as many layers and heads.

    Args:
        pairs: by method and task; compared_to: name of the other run.
        share: of the heads that count as top.

    Returns:
        a row per head (`HEADS`): `effect` here and in the `other` run with their q-values (`q_effect`, `q_other`),
        `difference` (effect - other) with interval, p_value and q_value, and `change` (see `change_of`); null in layers
        without attention. q-values are Benjamini-Hochberg over the heads of a method and task.
        a row per map (`MAPS`): `correlation` of the effects (Pearson), `rank_correlation` and `overlap` of their sizes
        (all heads; the `k` top ones), number of `heads`, how many were `tested`, how many of each of `KINDS`; whether
        questions were `paired`, n_items, n_questions (of the smaller run where they were not).
    """
    heads, maps = [], []
    for (method, task), pair in pairs.items():
        present, found = _compare(pair, confidence)
        rows = _head_rows(found)
        names = (method, task, compared_to)
        known = dict(zip(present, rows, strict=True))
        empty = (None,) * (len(HEADS) - len(names) - 2)
        places = np.ndindex(pair.first.effects.shape[1:])
        heads += [(*names, *place, *known.get(place, empty)) for place in places]
        maps.append((*names, *_map_row(found, [row[-1] for row in rows], share)))
    return pl.DataFrame(heads, schema=HEADS, orient="row"), pl.DataFrame(maps, schema=MAPS, orient="row")


def change_of(effect: float, other: float, here: bool, there: bool) -> str:
    """What a significant difference is.

    `came` and `went`: the head has a significant effect in only one run (`here`, `there`). Otherwise `turned`, if the
    signs differ, `stronger` or `weaker`.
    """
    if here != there:
        return "came" if here else "went"
    if effect * other < 0:
        return "turned"
    return "stronger" if abs(effect) > abs(other) else "weaker"


def _compare(pair: Pair, confidence: float) -> tuple[list[tuple[int, int]], Compared]:
    """Places of the heads that exist, and their statistics in this order."""
    present = ~np.isnan(pair.first.effects).any(axis=(0, 2))
    flat = [side._replace(effects=side.effects[:, present].reshape(len(side.effects), -1)) for side in pair]
    places = [(int(layer), head) for layer in np.flatnonzero(present) for head in range(pair.first.effects.shape[2])]
    return places, compare(*flat, confidence)


def _head_rows(found: Compared) -> list[tuple]:
    """From `effect` to `change` of each head."""
    q_effect, q_other, q_value = (benjamini_hochberg(part.p_value) for part in found[:3])
    difference = found.difference
    columns = [found.first.effect, q_effect, found.second.effect, q_other, difference.effect]
    columns += [difference.ci_low, difference.ci_high, difference.p_value, q_value]
    rows = []
    for row in zip(*(column.tolist() for column in columns), strict=True):
        effect, q_here, other, q_there = row[:4]
        differs = row[-1] < LEVEL
        rows.append((*row, change_of(effect, other, q_here < LEVEL, q_there < LEVEL) if differs else None))
    return rows


def _map_row(found: Compared, kinds: list[str | None], share: float) -> tuple:
    effect, other = found.first.effect, found.second.effect
    sizes = np.abs(effect), np.abs(other)
    k = top_count(share, len(effect))
    alike = (correlation(effect, other), rank_correlation(*sizes), overlap(*(top(size, k) for size in sizes)))
    tested = int(np.isfinite(found.difference.p_value).sum())
    counts = (k, len(effect), tested, *(kinds.count(kind) for kind in KINDS))
    return (*map(float, alike), *counts, found.paired, found.difference.n_items, found.difference.n_questions)
