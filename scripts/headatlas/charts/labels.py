"""What figures call tasks, methods and units."""

from types import MappingProxyType

from headatlas.metric import METRICS

METHOD_WORDS = MappingProxyType(
    {"ablation": "exact ablation", "attribution": "attribution (a gradient's estimate of ablation)", "probe": "a probe"}
)
# Tasks that the CogQA data writes differently from the rule "underscores to spaces, capitals".
PUBLISHED_LABELS = MappingProxyType({"decision_making": "Decision-making"})


def unit_of(method: str, metric: str) -> str:
    """The unit of a method's effects."""
    return "logits" if method == "probe" else METRICS[metric].unit


def task_label(task: str, labels: dict[str, str] | None) -> str:
    """What a figure calls a task: as `figures.labels` says, else the key in words (Math Calculation)."""
    named = PUBLISHED_LABELS | (labels or {})
    return named.get(task, task.replace("_", " ").title())
