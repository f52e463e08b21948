"""Names of tasks, methods and units in figures."""

from types import MappingProxyType

from headatlas.metric import METRICS

METHOD_WORDS = MappingProxyType(
    {"ablation": "exact ablation", "attribution": "attribution (a gradient's estimate of ablation)", "probe": "a probe"}
)
# Tasks whose name in CogQA differs from the rule "underscores to spaces, capitals".
PUBLISHED_LABELS = MappingProxyType({"decision_making": "Decision-making"})


def unit_of(method: str, metric: str) -> str:
    """The unit of a method's effects."""
    return "logits" if method == "probe" else METRICS[metric].unit


def task_label(task: str, labels: dict[str, str] | None) -> str:
    """Name of a task in a figure: from `figures.labels`, or the key in words (Math Calculation)."""
    named = PUBLISHED_LABELS | (labels or {})
    return named.get(task, task.replace("_", " ").title())
