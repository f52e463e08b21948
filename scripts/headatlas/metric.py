"""The metrics in words; `headatlas.models.batches.score_answers` computes them."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Metric:
    """Names in figures and sentences: the score, its unit, the accuracy, when an answer is right, and chance."""

    axis: str
    short: str
    unit: str
    accuracy: str
    right: str
    chance: str


# Methods whose effects are no drop of a metric, and what they are measured in.
OTHER_UNITS = MappingProxyType({"probe": "logits", "gates": "log-odds of the gate"})

METRICS = MappingProxyType(
    {
        "log_prob": Metric(
            axis="Log-probability (nats per answer token)",
            short="Log-prob.",
            unit="nats per answer token",
            accuracy="Exact match",
            right="whose whole answer is the model's first choice",
            chance="the score of always giving the most frequent answer",
        ),
        "margin": Metric(
            axis="Margin over the foil (nats)",
            short="Margin",
            unit="nats",
            accuracy="Answer over foil",
            right="whose answer is more likely than its foil",
            chance="one half",
        ),
    }
)
