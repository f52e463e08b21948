"""Knock-out files made up for the tests of heads kept alone: keeping a head adds its strength to the score."""

import numpy as np
from headatlas.evidence.knock_out_sets import choose_sets, keep_random, keep_top
from headatlas.files.knock_outs import RANDOM, KnockOut, Target, knocked_out


def kept_file(
    strengths: np.ndarray,
    effect: np.ndarray | None = None,
    *,
    method: str = "ablation",
    task: str = "t",
    rankings: int = 1,
    ks: tuple[int, ...] = (),
    noise: float = 0.0,
    n: int = 40,
    seed: int = 0,
) -> KnockOut:
    """A file of n / 2 questions with two items each; a head that is not kept costs nothing but its strength.

    Args:
        strengths: [layer, head]; effect: the map that ranks the heads (None: the strengths); rankings: of `RANDOM`.
        ks: sizes of the sets that are also knocked out.
        noise: standard deviation over questions of what a head adds, as a share of its strength; the same for the same
            seed, whatever the ranking.
    """
    effect = strengths if effect is None else effect
    ones = np.ones_like(strengths)
    out = choose_sets(effect, ones, ks, 6, (seed,)) if ks else []
    sets = keep_random(ones, rankings, (seed,)) if method == RANDOM else [*out, *keep_top(effect)]
    every = [tuple(map(int, head)) for head in np.argwhere(np.isfinite(strengths))]
    question = np.arange(n) // 2
    share = 1 + noise * np.random.default_rng(seed).normal(size=(n // 2, *strengths.shape))[question]
    added = strengths * share  # [item, layer, head]
    lost = np.array([added[:, *zip(*heads, strict=True)].sum(1) if (heads := knocked_out(one, every)) else np.zeros(n)
                     for one in sets])  # fmt: skip
    score = added.sum((1, 2)) - lost - 1
    target = Target(np.arange(len(sets)), score, score > 0, question)
    return KnockOut(method, task, max(ks, default=None), sets, {task: target}, {})
