"""Whether a ranking's top heads suffice: the score with only these heads, head-CPR and head-CMD; polars.

All other heads output the baseline; MLPs are left as they are. The faithfulness of a set of heads is its score on a
scale from 0 (no head) to 1 (all heads). CPR and CMD are the areas under the faithfulness f and under |1 - f| over the
share of heads kept. Definitions after the circuit track of the Mechanistic Interpretability Benchmark (Mueller et al.
2025, arXiv 2504.13151). There MLPs are ranked too, and outputs come from counterfactual prompts, so its numbers are not
comparable with these.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.knock_out_curves import trapezoid_weights
from headatlas.files.knock_outs import RANDOM, KnockOut, sets_of
from headatlas.stats.estimates import Estimate, means
from headatlas.stats.head_statistics import head_statistics


class Kept(NamedTuple):
    """One ranking (`random`: several draws of one), from no head to all heads kept.

    `ks` [size]; `score` [draw, size, item] in nats; `question` [item]; `span`: estimate of the score with all heads
    minus that without any; `faithfulness`: estimate of figures [size], NaN where it is undefined, and `note` says why.
    """

    ks: np.ndarray
    score: np.ndarray
    question: np.ndarray
    span: Estimate
    faithfulness: Estimate
    note: str | None

    @property
    def share(self) -> np.ndarray:
        """[size]: share of the heads kept."""
        return self.ks / self.ks[-1]

    @property
    def cpr(self) -> Estimate:
        """Area under the faithfulness over the share of heads kept; higher is better."""
        weights = trapezoid_weights(self.share)
        return self.faithfulness.then(lambda f: f @ weights)

    @property
    def cmd(self) -> Estimate:
        """Area under the distance of the faithfulness from 1; lower is better."""
        weights = trapezoid_weights(self.share)
        return self.faithfulness.then(lambda f: np.abs(1 - f) @ weights)


def kept_heads(file: KnockOut, selection: str, confidence: float, seed: int) -> Kept:
    """What the sets of one selection (`signed`, `absolute` or `random`) do on the file's own task.

    The faithfulness is undefined unless the whole interval of the span lies above 0. With fewer than 8 questions there
    is no interval, and the span itself has to.
    """
    target = file.targets[file.task]
    ks = np.array(sorted({one["k"] for one in file.sets if (one["kind"], one["selection"]) == ("keep", selection)}))
    rows = np.stack([sets_of(file, file.task, selection, k, "keep") for k in ks], axis=1)
    score = target.score.astype(np.float64)[rows]
    found = means(score, target.question, seed)
    span = found.then(lambda scores: scores[..., -1] - scores[..., 0])
    faithfulness, note = found.then(_faithfulness), None
    low = span.interval(confidence)[0]
    if not (span.value if np.isnan(low) else low) > 0:
        faithfulness = faithfulness.then(lambda f: np.full_like(f, np.nan))
        note = "undefined: the score with all heads is not clearly above that without any"
    elif np.isnan(low):
        note = f"{len(np.unique(target.question))} questions, too few for an interval"
    return Kept(ks, score, target.question, span, faithfulness, note)


def _faithfulness(scores: np.ndarray) -> np.ndarray:
    """From mean scores [..., size] with no head first and all heads last."""
    empty, whole = scores[..., :1], scores[..., -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return (scores - empty) / (whole - empty)


def sufficiency_curves(files: Iterable[KnockOut], confidence: float, seed: int) -> pl.DataFrame:
    """How well the model does each task with only the top heads of each ranking.

    Args:
        files: of all methods, and of random rankings, whose method is `random`.

    Returns:
        method, task, ranking (signed | absolute | random), draw, k (heads kept), share (of all heads), score (nats)
        with `_low` and `_high` (over questions, as for heads), faithfulness with `_low` and `_high`, n_items,
        n_questions.
    """
    parts = [
        _curve(file, selection, confidence, seed)
        for file in files
        for selection in (["random"] if file.method == RANDOM else ["signed", "absolute"])
    ]
    return pl.concat(parts)


def _curve(file: KnockOut, selection: str, confidence: float, seed: int) -> pl.DataFrame:
    kept = kept_heads(file, selection, confidence, seed)
    draws, sizes, _ = kept.score.shape
    score = head_statistics(kept.score.reshape(draws * sizes, -1).T, kept.question, confidence=confidence)
    low, high = kept.faithfulness.of_draws().interval(confidence)
    return pl.DataFrame(
        {
            "method": file.method,
            "task": file.task,
            "ranking": selection,
            "draw": np.repeat(np.arange(draws), sizes),
            "k": np.tile(kept.ks, draws),
            "share": np.tile(kept.share, draws),
            "score": score.effect,
            "score_low": score.ci_low,
            "score_high": score.ci_high,
            "faithfulness": kept.faithfulness.drawn.ravel(),
            "faithfulness_low": low.ravel(),
            "faithfulness_high": high.ravel(),
            "n_items": score.n_items,
            "n_questions": score.n_questions,
        }
    )


def areas_of_curves(files: Iterable[KnockOut], baseline: str, confidence: float, seed: int) -> pl.DataFrame:
    """Head-CPR (heads ranked by signed effect) and head-CMD (by absolute effect) of each method and task.

    Args:
        files: as in `sufficiency_curves`; baseline: what the other heads output.

    Returns:
        method, task, baseline, heads, rankings (1, or the number of random ones, over which figures are averaged),
        whole and empty (score with all heads and without any, nats), span (their difference), cpr and cmd, the last
        three with `_low` and `_high` (over questions and rankings), n_items, n_questions, note (why figures or
        intervals are null).
    """
    rows = []
    for file in files:
        signed, absolute = of_figures(file, confidence, seed)
        figures = {"span": signed.span, "cpr": signed.cpr, "cmd": absolute.cmd}
        row = {"method": file.method, "task": file.task, "baseline": baseline}
        row |= {"heads": int(signed.ks[-1]), "rankings": len(signed.score)}
        row |= {"whole": float(signed.score[0, -1].mean()), "empty": float(signed.score[0, 0].mean())}
        for name, estimate in figures.items():
            low, high = estimate.interval(confidence)
            low = np.maximum(low, 0) if name == "cmd" else low  # a distance
            row |= {name: float(estimate.value), f"{name}_low": float(low), f"{name}_high": float(high)}
        row |= {"n_items": len(signed.question), "n_questions": len(np.unique(signed.question)), "note": signed.note}
        rows.append(tuple(row.values()))
    schema = dict.fromkeys(("method", "task", "baseline"), pl.String) | dict.fromkeys(("heads", "rankings"), pl.Int64)
    schema |= dict.fromkeys(("whole", "empty"), pl.Float64)
    schema |= {f"{name}{end}": pl.Float64 for name in ("span", "cpr", "cmd") for end in ("", "_low", "_high")}
    schema |= {"n_items": pl.Int64, "n_questions": pl.Int64, "note": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def of_figures(file: KnockOut, confidence: float, seed: int) -> tuple[Kept, Kept]:
    """The rankings of a file that CPR and CMD take: by signed and by absolute effects, or the random ones for both."""
    if file.method == RANDOM:
        return (kept_heads(file, "random", confidence, seed),) * 2
    return tuple(kept_heads(file, selection, confidence, seed) for selection in ("signed", "absolute"))
