"""Adaptive ablation on known effects: how often its intervals are right, and what it saves.

PYTHONPATH=scripts python tests/benchmarks/adaptive.py NAME=FOLDER_OF_EFFECTS [...]

Coverage: populations of effects as in `interval_coverage.py`, 77 and 200 questions drawn from each, as rounds see them.
An interval is right if it holds the mean of all the questions drawn in every round that can stop a head.
Saving: each task's complete effects, given out in rounds as `ablate_layers` would measure them. The order of the
questions is drawn anew each time. Seeded; prints Markdown.
"""

import argparse
from pathlib import Path

import numpy as np
from headatlas.files.scores import read_effects
from headatlas.stats import adaptive
from headatlas.stats.adaptive import Bound, deciding_interval, measure_in_rounds, round_ends
from headatlas.stats.head_statistics import mean_and_error, mean_effects
from headatlas.stats.rounds import Rounds
from interval_coverage import KINDS, hottest, simulated

HEADS, ORDERS = 4000, 20
BOUNDS = (Bound(top=20), Bound(top=10), Bound(top=5), Bound(smallest_effect=0.05), Bound(smallest_effect=0.01))


def asymptotic(totals: np.ndarray, counts: np.ndarray, n_questions: int, looks: int) -> tuple[np.ndarray, np.ndarray]:
    """An asymptotic confidence sequence in place of `deciding_interval`: arXiv 2103.06476, theorem 2.2.

    It is tightest at the first sample (their equation for the parameter rho), and has the same finite correction.
    """
    n, error = len(counts), adaptive.ERROR
    rho = (-2 * np.log(error) + np.log(1 - 2 * np.log(error))) / round_ends(n_questions)[0]
    reach = np.sqrt(2 * (n * rho + 1) / (n * rho) * np.log(np.sqrt(n * rho + 1) / error))
    mean, spread = mean_and_error(totals, counts)
    half = np.sqrt(1 - n / n_questions) * reach * spread
    return mean - half, mean + half


def covered(effects: np.ndarray, interval) -> float:
    """Share of heads [question, head] whose mean over all questions lies in every interval that decides on them."""
    ends, truth = round_ends(len(effects)), effects.mean(0)
    right = np.ones(effects.shape[1], bool)
    for end in ends[:-1]:
        low, high = interval(effects[:end], np.ones(end), len(effects), len(ends) - 1)
        room = 1e-9 * np.abs(effects).max(0)
        right &= (low - room <= truth) & (truth <= high + room)
    return float(right.mean())


def print_coverage(folders: dict[str, Path]) -> None:
    """Coverage of all rounds together, for simulated effects and those of the hottest heads."""
    rng = np.random.default_rng(0)
    print(
        "| effects | questions | rounds | Student and Hall, Bonferroni | asymptotic sequence |\n" + "| --- " * 5 + "|"
    )
    for n in (77, 200):
        samples = {kind: simulated(kind, (n, HEADS), rng) for kind in KINDS}
        for name, folder in folders.items():
            heads = hottest(folder)
            drawn = [head[rng.integers(len(head), size=(n, HEADS // len(heads)))] for head in heads]
            samples[f"hottest heads of {name}"] = np.concatenate(drawn, axis=1)
        for name, effects in samples.items():
            found = [covered(effects, interval) for interval in (deciding_interval, asymptotic)]
            rounds = len(round_ends(n))
            print(f"| {name} | {n} | {rounds} | {' | '.join(f'{share:.3f}' for share in found)} |", flush=True)


def given_out(effects: np.ndarray, questions: np.ndarray, bound: Bound, seed: int) -> tuple[np.ndarray, Rounds]:
    """What adaptive ablation would have measured of complete `effects` [item, head]."""
    seen = np.full(effects.shape, np.nan)

    def measure(items: np.ndarray, heads: np.ndarray) -> None:
        cells = np.ix_(items, np.flatnonzero(heads))
        seen[cells] = effects[cells]

    rounds = measure_in_rounds(seen, np.ones(effects.shape[1], bool), questions, bound, (seed,), measure)
    return seen, rounds


def print_saving(folders: dict[str, Path]) -> None:
    """Items x heads over those measured, and how many of the hottest heads are the same."""
    print(
        "\n| effects | task | questions | heads | bound | saving (at most) | same hottest | measured on all |\n"
        + "| --- " * 8
        + "|"
    )
    for name, folder in folders.items():
        for path in sorted(folder.glob("*.safetensors")):
            read = read_effects(path)
            effects, questions = read.flat, read.question
            full = np.abs(mean_effects(read.effect, questions)).ravel()
            n = len(np.unique(questions))
            for bound in BOUNDS:
                k = bound.top or int((full >= bound.smallest_effect).sum())
                top, found = set(np.argsort(-full, kind="stable")[:k].tolist()), []
                for seed in range(ORDERS):
                    seen, rounds = given_out(effects, questions, bound, seed)
                    size = np.abs(np.nanmean(seen, axis=0))
                    same = top & set(np.argsort(-size, kind="stable")[:k].tolist())
                    done = (rounds.head == rounds.item.max() + 1).mean()
                    found.append((effects.size / rounds.measured.sum(), len(same) / max(1, k), done))
                saving, same, done = np.mean(found, axis=0)
                said = f"top {bound.top}" if bound.top else f"{bound.smallest_effect} nats ({k} heads)"
                print(
                    f"| {name} | {path.name.split('.')[0]} | {n} | {len(full)} | {said} | {saving:.2f} x "
                    f"({n / min(n, round_ends(n)[0]):.2f}) | {same:.1%} | {done:.0%} |",
                    flush=True,
                )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="NAME=FOLDER of effects files with all layers")
    folders = {name: Path(folder) for name, _, folder in (text.partition("=") for text in parser.parse_args().folders)}
    print_coverage(folders)
    print_saving(folders)


if __name__ == "__main__":
    main()
