"""How often intervals and tests of heads are right: ours and others, on known populations of questions.

PYTHONPATH=scripts python tests/benchmarks/interval_coverage.py results/demo/effects/ablation [MORE FOLDERS OF EFFECTS]

A population is what a head does on each question of a task. Samples of n questions are drawn from it with replacement,
and what a method says of the mean is compared with the population's. Populations are the five hottest heads of each
task of the given folders, and simulated ones of mean zero. Trimmed mean and median are compared with their own
population values. Seeded; prints Markdown.
"""

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from headatlas.files.scores import read_effects
from headatlas.stats import student_t
from headatlas.stats.head_statistics import (
    hall,
    hall_inverse,
    interval_and_p_value,
    question_totals,
)
from headatlas.stats.multiple_testing import benjamini_hochberg

SIZES = (5, 10, 20, 40, 77)
EXPERIMENTS, RESAMPLES, HOTTEST, LEVEL = 1000, 600, 5, 0.05


class Sample(NamedTuple):
    """Effects [experiment, question] and what the methods need of them."""

    x: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    skew: np.ndarray
    weights: np.ndarray  # [resample, question]

    @classmethod
    def of(cls, x: np.ndarray, rng: np.random.Generator) -> "Sample":
        """The sample with its mean, standard error and skewness over the root of n."""
        n, mean = x.shape[1], x.mean(1)
        away = x - mean[:, None]
        spread = np.sqrt((away**2).mean(1))
        skew = ((away / np.where(spread > 0, spread, 1)[:, None]) ** 3).mean(1) / math.sqrt(n)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(float)
        return cls(x, mean, spread / math.sqrt(n - 1), skew, weights)


# ----- intervals: low, high [experiment]


def percentile(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap, widened by sqrt(n / (n - 1)): in use before."""
    n = s.x.shape[1]
    means = s.weights @ (s.x - s.mean[:, None]).T / n * math.sqrt(n / (n - 1))
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return s.mean + low, s.mean + high


def students_t(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Student's t on the means of questions."""
    half = student_t.quantile(1 - LEVEL, s.x.shape[1] - 1) * s.error
    return s.mean - half, s.mean + half


def bootstrap_t(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Studentised bootstrap, equal tails."""
    n, away = s.x.shape[1], (s.x - s.mean[:, None]).T
    means = s.weights @ away / n
    variance = np.maximum(s.weights @ away**2 / n - means**2, 1e-12 * s.error**2)
    with np.errstate(invalid="ignore"):
        t = np.nan_to_num(means / np.sqrt(variance / (n - 1)))
    low, high = np.quantile(t, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return s.mean - high * s.error, s.mean - low * s.error


def halls_t(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Hall's transformation of t, with Student's quantiles."""
    reach = student_t.quantile(1 - LEVEL, s.x.shape[1] - 1)
    return tuple(s.mean - hall_inverse(sign * reach, s.skew) * s.error for sign in (1, -1))


def in_use(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The longer of Student's and Hall's on each side: `head_statistics.interval_and_p_value`."""
    return interval_and_p_value(s.x.T, np.ones(s.x.shape[1]), 1 - LEVEL)[:2]


def trimmed(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Mean without a tenth on either side (Tukey and McLaughlin), with the winsorised spread."""
    n = s.x.shape[1]
    cut, ordered = n // 10, np.sort(s.x, axis=1)
    winsorised = np.clip(ordered, ordered[:, [cut]], ordered[:, [n - cut - 1]])
    error = winsorised.std(axis=1, ddof=1) / ((1 - 2 * cut / n) * math.sqrt(n))
    middle = ordered[:, cut : n - cut].mean(1)
    half = student_t.quantile(1 - LEVEL, n - 2 * cut - 1) * error
    return middle - half, middle + half


def median(s: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Order statistics around the median, by the binomial distribution."""
    n = s.x.shape[1]
    below = np.cumsum([math.comb(n, k) / 2**n for k in range(n)])
    cut = int((below <= LEVEL / 2).sum())  # with 5 questions 0: least to greatest, which covers 0.94
    ordered = np.sort(s.x, axis=1)
    return ordered[:, max(0, cut - 1)], ordered[:, n - 1 - max(0, cut - 1)]


INTERVALS = {
    "percentile bootstrap": percentile, "Student": students_t, "bootstrap-t": bootstrap_t, "Hall": halls_t,
    "Student and Hall": in_use, "trimmed mean": trimmed, "median": median,
}  # fmt: skip
TRUTH = {"trimmed mean": lambda p: np.sort(p)[len(p) // 10 : len(p) - len(p) // 10].mean(), "median": np.median}


def likelihood_covers(s: Sample, truth: float) -> np.ndarray:
    """Whether empirical likelihood (Owen 1988), calibrated by the squared t, keeps the true mean: [experiment]."""
    away = s.x - truth
    inside = (away.max(1) > 0) & (away.min(1) < 0)
    low = np.where(inside, -1 / np.where(inside, away.max(1), 1), 0) * (1 - 1e-9)
    high = np.where(inside, -1 / np.where(inside, away.min(1), 1), 0) * (1 - 1e-9)
    for _ in range(60):
        middle = (low + high) / 2
        rising = (away / (1 + middle[:, None] * away)).sum(1) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    ratio = 2 * np.log1p(np.where(inside, low, 0)[:, None] * away).sum(1)
    return inside & (ratio <= student_t.quantile(1 - LEVEL, s.x.shape[1] - 1) ** 2)


# ----- tests: p-values [experiment]


def sign_flips(x: np.ndarray, rng: np.random.Generator, flips: int = 4000) -> np.ndarray:
    """Two-sided p-value by random sign flips of questions: in use before."""
    signs = rng.integers(0, 2, (flips, x.shape[1])) * 2.0 - 1
    reached = np.abs(signs @ x.T) >= np.abs(x.sum(1)) * (1 - 1e-9)
    return (reached.sum(0) + 1) / (flips + 1)


def both_t(x: np.ndarray, _rng: np.random.Generator | None = None) -> np.ndarray:
    """The larger p-value of Student's and Hall's t: `head_statistics.interval_and_p_value`."""
    return interval_and_p_value(x.T, np.ones(x.shape[1]), 1 - LEVEL)[2]


def hall_alone(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hall's t."""
    s = Sample.of(x, rng)
    return student_t.p_value(hall(s.mean / s.error, s.skew), x.shape[1] - 1)


# ----- populations


def simulated(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Effects of mean zero."""
    if kind.startswith("sparse"):  # one question in three (in ten) does something, the others hardly anything
        share = 1 / int(kind.split()[1])
        return (rng.random(shape) < share) * rng.exponential(size=shape) - share + 0.05 * rng.normal(size=shape)
    return {
        "normal": lambda: rng.normal(size=shape),
        "t3": lambda: rng.standard_t(3, size=shape),
        "exponential": lambda: rng.exponential(size=shape) - 1,
        "lognormal": lambda: np.exp(rng.normal(size=shape)) - math.exp(0.5),
    }[kind]()


KINDS = ("normal", "t3", "exponential", "lognormal", "sparse 3", "sparse 10")


def carrying(population: np.ndarray) -> float:
    """Effective number of questions that carry the spread: n over the kurtosis."""
    squares = (population - population.mean()) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum()) if squares.any() else float("inf")


def hottest(folder: Path) -> list[np.ndarray]:
    """What the hottest heads of each task of a folder of effects do on its questions: [question] each."""
    tasks: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        read = read_effects(path)
        totals, counts = question_totals(read.effect.reshape(len(read.effect), -1), read.question)
        tasks.setdefault(path.name.split(".")[0], []).append(totals / counts.mean())
    found = []
    for blocks in tasks.values():
        heads = np.concatenate(blocks, axis=1).T
        found += list(heads[np.argsort(-np.abs(heads.mean(1)), kind="stable")[:HOTTEST]])
    return found


# ----- tables


def covered(population: np.ndarray | str, n: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of samples whose interval holds the truth, by method."""
    if isinstance(population, str):
        x, truth = simulated(population, (EXPERIMENTS, n), rng), dict.fromkeys(INTERVALS, 0.0)
        large = np.sort(simulated(population, (1, 400_001), rng)[0])
        truth |= {name: of(large) for name, of in TRUTH.items()}
    else:
        x = population[rng.integers(len(population), size=(EXPERIMENTS, n))]
        truth = {name: TRUTH.get(name, np.mean)(population) for name in INTERVALS}
    sample, found = Sample.of(x, rng), {}
    for name, interval in INTERVALS.items():
        low, high = interval(sample)
        room = 1e-9 * np.abs(x).max()
        found[name] = float(((low - room <= truth[name]) & (truth[name] <= high + room)).mean())
    return found | {"empirical likelihood": float(likelihood_covers(sample, truth["Student"]).mean())}


def print_coverage(groups: dict[str, list], rng: np.random.Generator) -> None:
    """Coverage of each group of populations, by method and number of questions."""
    print(f"| population | heads | questions | {' | '.join([*INTERVALS, 'empirical likelihood'])} |")
    print("| --- " * (len(INTERVALS) + 4) + "|")
    for name, populations in groups.items():
        for n in SIZES:
            rows = [covered(population, n, rng) for population in populations]
            means = " | ".join(f"{np.mean([row[key] for row in rows]):.2f}" for key in rows[0])
            print(f"| {name} | {len(populations)} | {n} | {means} |", flush=True)


def print_by_sample(populations: list[np.ndarray], rng: np.random.Generator) -> None:
    """Coverage by what a sample itself shows of the number of questions that carry its spread."""
    bins = [(0, 1.5), (1.5, 3), (3, 5), (5, 8), (8, np.inf)]
    print(f"\n| questions | {' | '.join(f'{low} to {high}'.replace(' to inf', ' or more') for low, high in bins)} |")
    print("| --- " * (1 + len(bins)) + "|")
    for n in SIZES[2:]:
        seen, right = [], []
        for population in populations:
            x = population[rng.integers(len(population), size=(EXPERIMENTS, n))]
            low, high = in_use(Sample.of(x, rng))
            right.append((low <= population.mean()) & (population.mean() <= high))
            seen.append([carrying(row) for row in x])
        seen, right = np.concatenate(seen), np.concatenate(right)
        inside = [(low <= seen) & (seen < high) for low, high in bins]
        print(f"| {n} | {' | '.join(f'{right[one].mean():.2f} ({one.mean():.0%})' for one in inside)} |", flush=True)


def print_tests(real: list[np.ndarray], rng: np.random.Generator) -> None:
    """Error at 0.05 on simulated nulls, false discoveries among 64 heads of which 13 are real, and power."""
    tests = {"sign flips": sign_flips, "Hall": hall_alone, "Student and Hall": both_t}
    print(f"\n| null | questions | {' | '.join(f'{t}: error | false discoveries' for t in tests)} |")
    print("| --- " * (2 + 2 * len(tests)) + "|")
    for kind in KINDS:
        for n in SIZES[1:]:
            x, cells = simulated(kind, (EXPERIMENTS, n), rng), []
            for test in tests.values():
                cells.append(f"{(test(x, rng) <= LEVEL).mean():.3f}")
                wrong = []
                for _ in range(30):
                    heads = np.concatenate([simulated(kind, (51, n), rng), rng.normal(1, 1, (13, n))])
                    called = benjamini_hochberg(test(heads, rng)) < LEVEL
                    wrong.append(called[:51].sum() / max(1, called.sum()))
                cells.append(f"{np.mean(wrong):.2f}")
            print(f"| {kind} | {n} | {' | '.join(cells)} |", flush=True)
    print(f"\n| power on {len(real)} real heads, questions | {' | '.join(tests)} |")
    print("| --- " * (1 + len(tests)) + "|")
    for n in SIZES[1:]:
        drawn = [population[rng.integers(len(population), size=(300, n))] for population in real]
        shares = [np.mean([(test(x, rng) <= LEVEL).mean() for x in drawn]) for test in tests.values()]
        print(f"| {n} | {' | '.join(f'{share:.2f}' for share in shares)} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of effects files")
    rng, groups, real, everything = np.random.default_rng(0), {}, [], []
    for folder in parser.parse_args().folders:
        heads = hottest(folder)
        everything += heads
        for name, low, high in (("5 or more", 5, np.inf), ("2 to 5", 2, 5), ("fewer than 2", 0, 2)):
            chosen = [head for head in heads if low <= carrying(head) < high]
            groups |= {f"{folder}, carried by {name}": chosen} if chosen else {}
            real += chosen if low >= 2 else []
    print_coverage(groups | {kind: [kind] for kind in KINDS}, rng)
    print_by_sample(everything, rng)
    print_tests(real, rng)


if __name__ == "__main__":
    main()
