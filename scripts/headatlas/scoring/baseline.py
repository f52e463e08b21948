"""From a setting to the outputs of edited heads."""

from pathlib import Path

from headatlas.files.effects import read_baseline
from headatlas.models.replacement import Baseline, PromptBaseline, VectorBaseline, partners


def choose_baseline(
    settings: dict, items: list[dict], shape: tuple[int, int, int], trace: Path | None, pooled: Path | None
) -> Baseline:
    """The baseline of a task's items: patched from their counterfactual prompts, or a vector per head.

    Args:
        as in `files.effects.read_baseline`; `baseline: counterfactual` needs neither trace nor pool.
    """
    if settings["baseline"] == "counterfactual":
        return PromptBaseline(partners(items, "counterfactual"))
    return VectorBaseline(read_baseline(settings, items, shape, trace, pooled))
