"""Names of tasks, methods and units in figures."""

from types import MappingProxyType

from headatlas.metric import METRICS, OTHER_UNITS

METHOD_WORDS = MappingProxyType(
    {
        "ablation": "exact ablation",
        "attribution": "attribution (a gradient's estimate of ablation)",
        "probe": "a probe",
        "gates": "gates learned on all heads together",
    }
)
# Tasks whose name in CogQA differs from the rule "underscores to spaces, capitals".
PUBLISHED_LABELS = MappingProxyType({"decision_making": "Decision-making"})

SIGNS = "Above 0 the head helps the answer, below 0 it hurts it."
SIGNS_OF_GATES = "Above 0 the head is kept before the median head, below 0 after it."


def sign_words(method: str) -> str:
    """What the sign of a method's effects means."""
    return SIGNS_OF_GATES if method == "gates" else SIGNS


def unit_of(method: str, metric: str) -> str:
    """The unit of a method's effects."""
    return OTHER_UNITS.get(method, METRICS[metric].unit)


def task_label(task: str, labels: dict[str, str] | None) -> str:
    """Name of a task in a figure: from `figures.labels`, or the key in words (Math Calculation)."""
    named = PUBLISHED_LABELS | (labels or {})
    return named.get(task, task.replace("_", " ").title())
