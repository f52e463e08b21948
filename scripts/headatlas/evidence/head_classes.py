"""What gates that were pushed open, and shut, say of each head: it facilitates, interferes, or is irrelevant; polars.

Classes after causal head gating (Nam et al. 2025, arXiv 2505.13737).
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

CLASSES = ("facilitating", "interfering", "irrelevant")
COLUMNS = (
    {"task": pl.String}
    | dict.fromkeys(("layer", "head"), pl.Int32)
    | dict.fromkeys(("open", "shut"), pl.Float64)
    | {"class": pl.String, "stability": pl.Float64, "seeds": pl.Int32}
)


def classes_of(opened: np.ndarray, shut: np.ndarray) -> np.ndarray:
    """Index into `CLASSES` of each gate.

    A head facilitates if its gate stays open though it is pushed shut; else it interferes if the gate is shut though it
    is pushed open; else the gate follows the push, and the head is irrelevant.

    Args:
        opened, shut: probabilities of the gate to be open when pushed open, and when pushed shut; same shape.
    """
    return np.select([shut > 0.5, opened <= 0.5], [0, 1], 2)


def head_classes(tasks: Mapping[str, Mapping[str, np.ndarray]]) -> pl.DataFrame:
    """The class of each head of each task, by most seeds.

    Args:
        tasks: gates by push, `open` and `shut`: [seed, layer, head], NaN in layers without attention.

    Returns:
        task, layer, head, open and shut (means over seeds), class (that of most seeds; of equally many the first of
        `CLASSES`), stability (share of the seeds that give this class), seeds.
    """
    rows = []
    for task, gates in tasks.items():
        classes = classes_of(gates["open"], gates["shut"])
        shares = (classes[..., None] == np.arange(len(CLASSES))).mean(0)  # [layer, head, class]
        means = {push: values.astype(np.float64).mean(0) for push, values in gates.items()}
        for layer, head in np.argwhere(~np.isnan(means["open"])).tolist():
            best = int(shares[layer, head].argmax())
            found = (CLASSES[best], float(shares[layer, head, best]), len(classes))
            rows.append((task, layer, head, *(float(means[push][layer, head]) for push in ("open", "shut")), *found))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")
