"""Which heads need more questions: all are measured on a first sample, and further questions go only to some.

Questions come in rounds, in random order. After each round a head goes on only if an interval of its mean effect over
all the questions still reaches a bound: the k-th largest effect, or a smallest effect of interest. numpy only.

The interval is that of `head_statistics` (Student's and Hall's t), at an error divided by the number of rounds that can
stop a head (Bonferroni). So all intervals of a head hold together with a chance of at least 1 - `ERROR`, wherever it
stops, as far as a single interval keeps its own coverage: asymptotically, and with 20 questions for tails like those in
config/README.md. More cannot be had. Effects have no known bounds, so the sequences that hold at any number of
questions, by betting or empirical Bernstein (Waudby-Smith and Ramdas 2024, arXiv 2010.09686), do not apply; without
bounds no interval of a mean holds for all distributions (Bahadur and Savage 1956, Annals of Mathematical Statistics 27,
1115-1122). Asymptotic confidence sequences (Waudby-Smith et al. 2021, arXiv 2103.06476) would hold after every single
question, but only a few rounds look at them, and skewed effects need Hall's correction more:
`tests/benchmarks/adaptive.py` compares the two.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headatlas.stats.head_statistics import (
    FEWEST,
    HeadStatistics,
    head_statistics,
    interval_and_p_value,
    mean_and_error,
    question_totals,
)
from headatlas.stats.rounds import Rounds

GROWTH = 1.5  # each round ends at so many times the questions of the one before
ERROR = 0.05  # chance that one of the intervals that decide on a head misses its mean over all questions


@dataclass(frozen=True)
class Bound:
    """The effect that matters: the `top`-th largest of all heads, or the size `smallest_effect` in nats."""

    top: int | None = None
    smallest_effect: float | None = None

    def of(self, smallest: np.ndarray) -> float:
        """The bound, from the smallest size [head] that each head's interval allows."""
        if self.smallest_effect is not None:
            return self.smallest_effect
        return float(np.sort(smallest)[-self.top]) if len(smallest) > self.top else 0.0


def round_ends(n_questions: int) -> list[int]:
    """How many questions have come by the end of each round: 20, 30, 45, 68, ... and at last all."""
    ends = [FEWEST]
    while ends[-1] < n_questions:
        ends.append(int(np.ceil(GROWTH * ends[-1])))
    return [*ends[:-1], n_questions]


def draw_rounds(questions: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """The round of each item [item], from 0: questions in random order, all items of a question together."""
    _, position = np.unique(questions, return_inverse=True)
    n = position.max() + 1
    place = np.random.default_rng(np.random.SeedSequence(seed)).permutation(n)
    return np.searchsorted(round_ends(n), place, side="right")[position]


def deciding_interval(
    totals: np.ndarray, counts: np.ndarray, n_questions: int, looks: int
) -> tuple[np.ndarray, np.ndarray]:
    """Interval [head] of each head's mean over all of a task's questions, from a random sample of them.

    It is the interval of the population's mean, shortened by the root of the share of questions that are still to come:
    the finite-population correction (Cochran 1977, Sampling Techniques, section 2.8).

    Args:
        totals: [question, head], summed effects; counts: [question], items.
        looks: number of such intervals that must hold together with a chance of 1 - `ERROR`.
    """
    low, high, _ = interval_and_p_value(totals, counts, 1 - ERROR / looks)
    mean, _ = mean_and_error(totals, counts)
    left = np.sqrt(1 - len(counts) / n_questions)
    return mean - left * (mean - low), mean + left * (high - mean)


def open_heads(effects: np.ndarray, questions: np.ndarray, n_questions: int, bound: Bound) -> np.ndarray:
    """[head] bool: which of the heads that were measured on all questions so far can still reach the bound.

    At least `bound.top` heads go on. Heads that stopped earlier need not be given: their intervals ended below the
    bound, so the `top`-th largest lower end is among the others.

    Args:
        effects: [item, head], questions: [item], of the rounds so far; n_questions: those of all rounds.
    """
    looks = len(round_ends(n_questions)) - 1
    low, high = deciding_interval(*question_totals(effects, questions), n_questions, looks)
    largest = np.maximum(np.abs(low), np.abs(high))
    smallest = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
    return largest >= bound.of(smallest)


def measure_in_rounds(
    effects: np.ndarray,
    heads: np.ndarray,
    questions: np.ndarray,
    bound: Bound,
    seed: tuple[int, ...],
    measure: Callable[[np.ndarray, np.ndarray], None],
) -> Rounds:
    """Measure all heads on the questions of a first round, and on those of each further round the heads still open.

    If an effect is not finite, its head goes on: no interval can say anything about it.

    Args:
        effects: [item, ..., head], which `measure` fills; heads: [..., head] bool, those that exist.
        questions: [item]; seed: of their order.
        measure: called with the items [n] of a round and the open heads [..., head] bool.
    """
    item = draw_rounds(questions, seed)
    n_rounds, n_questions = item.max() + 1, len(np.unique(questions))
    done, still = np.zeros(heads.shape, int), heads.copy()
    for now in range(n_rounds):
        measure(np.flatnonzero(item == now), still.copy())
        done += still
        if now == n_rounds - 1:
            break
        known = effects[item <= now][:, still]
        finite = np.isfinite(known).all(axis=0)
        goes_on = ~finite
        goes_on[finite] = open_heads(known[:, finite], questions[item <= now], n_questions, bound)
        still[still] = goes_on
        if not still.any():
            break
    return Rounds(item, done)


def adaptive_statistics(
    effects: np.ndarray, questions: np.ndarray, rounds: Rounds, *, confidence: float
) -> HeadStatistics:
    """As `head_statistics`, for heads measured on different numbers of rounds; `n_items`, `n_questions` are [head].

    A head that went through all rounds has the statistics of `head_statistics`. Those of a head that stopped before
    hold at whichever round it stopped: the interval's error is divided by the number of rounds at which it could have
    stopped, and the p-value multiplied by it (Bonferroni).

    Args:
        effects: [item, head], ignored where `rounds` says that the head was not measured; questions: [item].
    """
    last = len(round_ends(len(np.unique(questions))))
    found = HeadStatistics(*(np.full(effects.shape[1], np.nan) for _ in HeadStatistics._fields))
    for end in np.unique(rounds.head):
        heads, items = rounds.head == end, rounds.item < end
        looks = 1 if end == last else last - 1
        part = head_statistics(effects[np.ix_(items, heads)], questions[items], confidence=1 - (1 - confidence) / looks)
        part = part._replace(p_value=np.minimum(1.0, looks * part.p_value))
        for whole, values in zip(found, part, strict=True):
            whole[heads] = values
    return found._replace(n_items=found.n_items.astype(int), n_questions=found.n_questions.astype(int))
