"""Which heads are knocked out or kept together: the top, the bottom, and random ones for comparison; numpy only."""

from collections.abc import Iterable

import numpy as np

NEAREST = 5  # a random one of so many heads nearest in norm replaces a chosen head
SMALLEST_PART = 4  # at most a quarter of the heads are knocked out
# How many of 1000 heads are kept: the sizes of the circuit track of the Mechanistic Interpretability Benchmark (Mueller
# et al. 2025, arXiv 2504.13151).
KEPT = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def k_grid(heads: int, elbow: int) -> list[int]:
    """How many heads to knock out: 1, 2, 4, ... up to a quarter of all heads, and the elbow; ascending.

    With half of the heads knocked out, only one set remains to compare with: all others.
    """
    most = heads // SMALLEST_PART
    powers = {2**i for i in range(heads.bit_length()) if 2**i <= most}
    return sorted(powers | ({elbow} if 0 < elbow <= most else set()))


def compared_size(heads: int) -> int:
    """How many heads to knock out to compare tasks: the largest power of two up to a tenth of all heads, at least 1."""
    return 2 ** max(0, (heads // 10).bit_length() - 1)


def choose_sets(
    effect: np.ndarray, norms: np.ndarray, ks: Iterable[int], draws: int, seed: tuple[int, ...]
) -> list[dict]:
    """The sets of heads to knock out for one method and task; the first is empty.

    Args:
        effect: [layer, head], signed mean effects. The top heads are those that help most; knocking out heads that
            hurt would help, and hide what the others cost. The bottom heads are those nearest to 0. NaN in layers
            without attention, from which no head is chosen.
        norms: [layer, head], mean length of the head's output.
        ks: sizes, each at most a quarter of the heads.
        draws: number of sets of each random kind.

    Returns:
        dicts of kind (out), selection (none | top | bottom | random | random_norm), draw (0, 1, ... for random sets),
        k, heads ([[layer, head], ...] in order of choice).

        random: as many heads of each layer as the top set has there (if a layer has too few others, the rest come from
        any layer); random_norm: for each top head one of the `NEAREST` in norm, from any layer. Neither holds a head of
        the top set that it is compared with.
    """
    n_layers, n_heads = effect.shape
    flat = effect.ravel()
    layer = np.repeat(np.arange(n_layers), n_heads)
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    heads = np.flatnonzero(~np.isnan(flat))
    most_first = heads[np.argsort(-flat[heads], kind="stable")]
    least_first = heads[np.argsort(np.abs(flat[heads]), kind="stable")]
    sets = [_set("none", 0, np.array([], dtype=int), n_heads)]
    for k in sorted(ks):
        if not 0 < k <= len(heads) // SMALLEST_PART:
            raise ValueError(f"k = {k} of {len(heads)} heads leaves too few others to compare with")
        chosen = most_first[:k]
        sets += [_set("top", 0, chosen, n_heads), _set("bottom", 0, least_first[:k], n_heads)]
        for draw in range(draws):
            sets.append(_set("random", draw, _match_layers(chosen, heads, layer, rng), n_heads))
            sets.append(_set("random_norm", draw, _match_norms(chosen, heads, norms.ravel(), rng), n_heads))
    return sets


def kept_sizes(heads: int) -> list[int]:
    """How many heads to keep: none, all, and shares of them (`KEPT`), rounded but at least one; ascending."""
    return sorted({0} | {max(1, (2 * heads * share + 1000) // 2000) for share in KEPT})


def keep_top(effect: np.ndarray) -> list[dict]:
    """The sets of top heads to keep for one method and task, while all other heads are knocked out.

    Args:
        effect: as in `choose_sets`.

    Returns:
        as in `choose_sets`, of kind `keep`, for each of `kept_sizes`. Selections: `signed`, the heads that help most
        (for CPR), and `absolute`, those with the largest effects of either sign (for CMD).
    """
    flat = effect.ravel()
    heads = np.flatnonzero(~np.isnan(flat))
    keys = {"signed": -flat[heads], "absolute": -np.abs(flat[heads])}
    return [
        one
        for selection, key in keys.items()
        for one in _keep(selection, 0, heads[np.argsort(key, kind="stable")], effect.shape[1])
    ]


def keep_random(norms: np.ndarray, rankings: int, seed: tuple[int, ...]) -> list[dict]:
    """The sets of heads to keep for one task by random rankings of all heads; a larger set holds the smaller ones.

    Args:
        norms: [layer, head], NaN where there is no head; rankings: their number.

    Returns:
        as in `keep_top`, with selection `random` and a draw for each ranking.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    heads = np.flatnonzero(~np.isnan(norms.ravel()))
    return [one for draw in range(rankings) for one in _keep("random", draw, rng.permutation(heads), norms.shape[1])]


def _keep(selection: str, draw: int, ranking: np.ndarray, n_heads: int) -> list[dict]:
    return [_set(selection, draw, ranking[:k], n_heads, "keep") for k in kept_sizes(len(ranking))]


def _set(selection: str, draw: int, heads: np.ndarray, n_heads: int, kind: str = "out") -> dict:
    pairs = [[int(head) // n_heads, int(head) % n_heads] for head in heads]
    return {"kind": kind, "selection": selection, "draw": draw, "k": len(pairs), "heads": pairs}


def _match_layers(chosen: np.ndarray, heads: np.ndarray, layer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    others = rng.permutation(np.setdiff1d(heads, chosen))
    drawn = []
    for one, wanted in zip(*np.unique(layer[chosen], return_counts=True), strict=True):
        drawn.append(others[layer[others] == one][:wanted])
    drawn = np.concatenate(drawn)
    left = others[~np.isin(others, drawn)]
    return np.concatenate([drawn, left[: len(chosen) - len(drawn)]])


def _match_norms(chosen: np.ndarray, heads: np.ndarray, norms: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    free = np.setdiff1d(heads, chosen)
    drawn = []
    for head in rng.permutation(chosen):
        nearest = free[np.argsort(np.abs(norms[free] - norms[head]), kind="stable")[:NEAREST]]
        drawn.append(rng.choice(nearest))
        free = free[free != drawn[-1]]
    return np.array(drawn)
