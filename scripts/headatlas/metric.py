"""What a model's answer is scored by, in words: `headatlas.models.batches.score_answers` computes it."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Metric:
    """How figures and sentences call an answer's score, its unit, the share of right answers, and when one is right."""

    score: str
    axis: str
    short: str
    unit: str
    accuracy: str
    right: str
    chance: str


METRICS = MappingProxyType(
    {
        "log_prob": Metric(
            score="Log-probability of the answer",
            axis="Log-probability (nats per answer token)",
            short="Log-prob.",
            unit="nats per answer token",
            accuracy="Exact match",
            right="whose whole answer is the model's first choice",
            chance="the score of always giving the most frequent answer",
        ),
        "margin": Metric(
            score="Margin of the answer over its foil",
            axis="Margin over the foil (nats)",
            short="Margin",
            unit="nats of margin",
            accuracy="Answer over foil",
            right="whose answer is more likely than its foil",
            chance="one half",
        ),
    }
)
