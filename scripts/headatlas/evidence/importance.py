"""The importance table, gathered from the score files of all methods, tasks and layers; polars, never torch."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import atomic, log
from headatlas.stats.multiple_testing import benjamini_hochberg

COLUMNS = (
    "model", "method", "task", "layer", "head", "effect", "std_error", "ci_low", "ci_high",
    "p_value", "q_value", "importance", "rank", "n_items", "n_questions", "stopped", "note",
)  # fmt: skip


def score_files(folder: Path, methods: list[str], tasks: list[str], layers: int) -> list[Path]:
    """The files `{method}/{task}/layer-{layer}.parquet` of a folder; any other file there is ignored.

    Raises:
        HeadAtlasError: a file is missing.
    """
    files = [
        folder / method / task / f"layer-{layer}.parquet"
        for method in methods
        for task in tasks
        for layer in range(layers)
    ]
    for file in files:
        if not file.is_file():
            raise HeadAtlasError(f"{file}: no such score file; run score_layer first")
    return files


def gather(files: list[Path], methods: list[str], tasks: list[str]) -> pl.DataFrame:
    """Read score files into the importance table (`COLUMNS`).

    Rows are sorted by method, task (in the order given), layer and head, whatever the order of the files.

    Raises:
        HeadAtlasError: a head is missing or occurs twice; there are several models, or an unknown method or task.
    """
    scores = pl.concat([pl.read_parquet(file, glob=False) for file in sorted(map(str, files))])
    return importance_table(scores, methods, tasks)


def importance_table(scores: pl.DataFrame, methods: list[str], tasks: list[str]) -> pl.DataFrame:
    """Add q-value, importance and rank to scores: `COLUMNS`, one row per method, task, layer and head.

    Within one method and task, importance is a head's share of the absolute effects. It sums to 1, or is all 0, with a
    warning, if no head has any effect. Rank 1 is the most important head (ties by layer, then head). q-values are
    Benjamini-Hochberg over all heads that have a p-value. Layers without attention (hybrid models) have as many rows as
    other layers, with null in these columns.

    Raises:
        HeadAtlasError: as `gather`.
    """
    check_complete(scores, methods, tasks)
    parts = []
    for method in methods:
        for task in tasks:
            part = scores.filter(pl.col("method") == method, pl.col("task") == task).sort("layer", "head")
            known = with_heads(part)
            known = known.with_columns(**_shares(known))
            parts.append(
                pl.concat([known, part.filter(pl.col("effect").is_null())], how="diagonal").sort("layer", "head")
            )
            if part["effect"].abs().sum() == 0:
                log.warning("warning: no head has any effect on task %s by %s: all importances are 0", task, method)
    return pl.concat(parts).select(COLUMNS)


def check_complete(scores: pl.DataFrame, methods: list[str], tasks: list[str]) -> None:
    """Check that every head of every layer occurs once per method and task, for one model.

    Layers count from 0 without a gap, and so do the heads of each layer. Layers may differ in their number of heads,
    but methods and tasks may not.

    Raises:
        HeadAtlasError: what is missing, occurs twice, or is unexpected.
    """
    models = scores["model"].unique().sort().to_list()
    if len(models) > 1:
        raise HeadAtlasError(f"scores of several models ({', '.join(models)}) cannot share one table")
    _check_known(scores, "method", methods)
    _check_known(scores, "task", tasks)
    layers = scores["layer"].max() + 1
    heads = dict(scores.group_by("layer").agg(pl.col("head").max() + 1).iter_rows())
    expected = [(layer, head) for layer in range(layers) for head in range(heads.get(layer, 1))]
    for method in methods:
        for task in tasks:
            part = scores.filter(pl.col("method") == method, pl.col("task") == task)
            found = sorted(part.select("layer", "head").iter_rows())
            if found != expected:
                raise HeadAtlasError(f"scores of {method}, {task}: {_difference(found, expected)}; run score_layer")


def write_importance(table: pl.DataFrame, parquet: Path, csv: Path) -> None:
    """Write the importance table as Parquet and as CSV, with all digits."""
    with atomic(parquet) as draft:
        table.write_parquet(draft)
    with atomic(csv) as draft:
        table.write_csv(draft)


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet; NaN (unknown) becomes null."""
    with atomic(path) as draft:
        table.with_columns(pl.col(pl.Float64).fill_nan(None)).write_parquet(draft)


def write_csv(table: pl.DataFrame, path: Path) -> None:
    """Write a table as CSV, with all digits; NaN (unknown) becomes empty."""
    with atomic(path) as draft:
        table.with_columns(pl.col(pl.Float64).fill_nan(None)).write_csv(draft)


def read_importance(path: Path) -> pl.DataFrame:
    """Read `importance.parquet`.

    Raises:
        HeadAtlasError: the file is not an importance table.
    """
    try:
        table = pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise HeadAtlasError(f"{path}: cannot be read as Parquet; run aggregate again") from error
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise HeadAtlasError(f"{path}: is not an importance table, lacks {', '.join(missing)}; run aggregate again")
    return table.select(COLUMNS)


def with_heads(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of layers that have attention; rows of other layers have no effect."""
    return table.filter(pl.col("effect").is_not_null())


def _shares(part: pl.DataFrame) -> dict[str, pl.Series]:
    size = part["effect"].abs().to_numpy()
    rank = np.empty(len(size))
    rank[np.argsort(-size, kind="stable")] = np.arange(1, len(size) + 1)  # NaN comes last
    return {
        "q_value": pl.Series(benjamini_hochberg(part["p_value"].to_numpy())).fill_nan(None),
        "importance": pl.Series(size / (np.nansum(size) or 1.0)).fill_nan(None),
        "rank": pl.Series(np.where(np.isnan(size), np.nan, rank)).fill_nan(None).cast(pl.Int32),
    }


def _check_known(scores: pl.DataFrame, column: str, known: list[str]) -> None:
    unknown = sorted(set(scores[column].unique()) - set(known))
    if unknown:
        raise HeadAtlasError(f"scores hold {column} {', '.join(unknown)}, settings only {', '.join(known)}")


def _difference(found: list[tuple[int, int]], expected: list[tuple[int, int]]) -> str:
    missing = sorted(set(expected) - set(found))
    if missing:
        layer, head = missing[0]
        return f"{len(missing)} of {len(expected)} heads are missing, first layer {layer}, head {head}"
    layer, head = next(this for this, following in pairwise(found) if this == following)
    return f"layer {layer}, head {head} occurs twice"
