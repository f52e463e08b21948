"""Writes what the tables show as sentences: fills the template of the findings; polars and Jinja, never torch.

The sentences are in the template; what they may claim comes from `claims`. A map is left out if the model does not do
its task, or if integrated gradients miss what they should add up to.
"""

import math
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2
import polars as pl

from headatlas.errors import HeadAtlasError
from headatlas.evidence import claims
from headatlas.evidence.capability import incapable
from headatlas.evidence.summary import LEVEL
from headatlas.evidence.task_names import named, of_tasks, without_tasks
from headatlas.metric import METRICS
from headatlas.stats.head_statistics import FEWEST


class Tables(NamedTuple):
    """The tables of one model; None where one was not made."""

    capability: pl.DataFrame
    summary: pl.DataFrame
    comparisons: pl.DataFrame
    hottest: pl.DataFrame
    profiles: pl.DataFrame
    reliability: pl.DataFrame | None = None
    agreement: pl.DataFrame | None = None
    overlap: pl.DataFrame | None = None
    surface: pl.DataFrame | None = None
    formats: pl.DataFrame | None = None
    answers: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    changes: pl.DataFrame | None = None
    area: pl.DataFrame | None = None
    dissociation: pl.DataFrame | None = None
    dominance: pl.DataFrame | None = None
    cpr: pl.DataFrame | None = None
    tests: pl.DataFrame | None = None


def write_findings(
    tables: Tables,
    confidence: float,
    names: Mapping[str, str],
    template: Path,
    slow_ways: Sequence[str] = (),
    rounding: str | None = None,
) -> str:
    """The findings as Markdown.

    Args:
        names: from each task's key to its name in the figures, in the order of the figures.
        template: file with the sentences.
        slow_ways: sentences on jobs that took a slower way than they could have (`engine_record.slow_ways`).
        rounding: a sentence on the noise of the numbers (`engine_record.rounding`).

    Raises:
        HeadAtlasError: file and line of a mistake in the template.
    """
    context = values(tables, names) | {"confidence": confidence, "slow_ways": slow_ways, "rounding": rounding}
    return fill(template, context | {"level": LEVEL, "fewest_questions": FEWEST})


def values(tables: Tables, names: Mapping[str, str]) -> dict:
    """What the template shows: see the functions of `claims`.

    Returns:
        `model`, `metric` (its words), `capability` (rows), `not_done` (tasks), `methods` (`of_method` of each; none
        where the model does no task), `rankings`, `agreement`, `surface`, `formats`, `answers` and
        `groups` (controls), `changes` (from another run).
    """
    capability = named(tables.capability, names)
    done = of_done_tasks(tables, names)
    methods = done.summary["method"].unique(maintain_order=True)
    return {
        "model": tables.summary["model"][0],
        "metric": METRICS[capability["metric"][0]],
        "capability": capability.to_dicts(),
        "not_done": incapable(capability),
        "methods": [of_method(done, method) for method in methods],
        "rankings": claims.rankings(done.area, done.cpr, done.tests),
        "agreement": claims.agreement(done.agreement),
        "surface": claims.surface(done.surface),
        "formats": claims.formats(done.formats),
        "answers": claims.answers(done.answers),
        "groups": claims.groups(done.groups),
        "changes": claims.changes(done.changes),
    }


def of_method(tables: Tables, method: str) -> dict:
    """What the template shows of one method.

    Returns:
        `name`, `overview`, `completeness`, `stopped`, `claims` (None where no map can be read), `hottest`.
    """
    every = Tables(*(_by(table, method) for table in tables))
    read = _readable(every)
    found = None
    if not read.summary.is_empty():
        found = {
            "densest": claims.extreme(read.summary, read.comparisons, "effective_heads"),
            "deepest": claims.extreme(read.summary, read.comparisons, "layer_centre"),
            "last_layer": read.profiles["layer"].max(),
            "sparsity": claims.sparsity(read.summary),
            "clusters": claims.clusters(read.profiles),
            "exclusive": claims.exclusive(read.summary),
            "overlap": claims.overlap(read.overlap),
            "reliability": claims.reliability(read.reliability),
            "area": claims.area(read.area),
            "dissociation": claims.dissociation(read.dissociation),
            "dominance": claims.dominance(read.dominance),
        }
    return {
        "name": method,
        "overview": claims.overview(every.summary, every.reliability),
        "completeness": claims.completeness(every.summary),
        "stopped": claims.stopped(every.summary),
        "claims": found,
        "hottest": claims.hottest(read.hottest),
    }


def of_done_tasks(tables: Tables, names: Mapping[str, str]) -> Tables:
    """The rows of the tasks that the model does, under the names and in the order of the figures.

    The surface control, which knows no model, keeps all tasks. The dominance of the dissociation matrix is taken over
    all tasks, so it is left out where the model does not do them all.
    """
    done = tables.capability.filter("capable")["task"].to_list()
    kept = {
        field: table if table is None or field == "surface" else of_tasks(table, done)
        for field, table in tables._asdict().items()
    }
    if len(done) < tables.capability.height:
        kept["dominance"] = None
    return Tables(**{field: table if table is None else named(table, names) for field, table in kept.items()})


def _by(table: pl.DataFrame | None, method: str) -> pl.DataFrame | None:
    """The rows of one method; all rows of a table that has no methods or compares them."""
    return table if table is None or "method" not in table.columns else table.filter(method=method)


def _readable(tables: Tables) -> Tables:
    """The tables on maps without the rows of maps that should not be read."""
    unread = tables.summary.filter(~pl.col("readable"))["task"].to_list()
    kept = ("summary", "comparisons", "hottest", "profiles", "reliability", "overlap")
    tables_of_maps = {name: table for name in kept if (table := getattr(tables, name)) is not None}
    return tables._replace(**{name: without_tasks(table, unread) for name, table in tables_of_maps.items()})


# --- the template ------------------------------------------------------------------------------------


def fill(template: Path, context: Mapping) -> str:
    """Fill a Jinja template in which every name must be known.

    Raises:
        HeadAtlasError: file and line of a mistake in the template.
    """
    loader = jinja2.FileSystemLoader(template.parent)
    environment = jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    try:
        return environment.get_template(template.name).render(context)
    except jinja2.TemplateSyntaxError as error:
        raise HeadAtlasError(f"{template}:{error.lineno}: {error.message}; fix the template") from error
    except jinja2.UndefinedError as error:
        lines = [at.lineno for at in traceback.extract_tb(error.__traceback__) if at.filename == str(template)]
        raise HeadAtlasError(f"{template}:{lines[-1]}: {error.message}; fix the template") from error


def interval(row: Mapping, figure: str, digits: str) -> str:
    """A figure of a row with its interval: "0.53 [0.40, 0.61]", or "unknown".

    Args:
        row: holds `figure` and its ends, `figure`_low and `figure`_high or ci_low and ci_high.
        digits: format of all three numbers, such as .2f or .0%.
    """
    own = figure if f"{figure}_low" in row else "ci"
    value, low, high = (row[key] for key in (figure, f"{own}_low", f"{own}_high"))
    if _unknown(value):
        return "unknown"
    return f"{value:{digits}} [unknown]" if _unknown(low) else f"{value:{digits}} [{low:{digits}}, {high:{digits}}]"


def _unknown(value: float | None) -> bool:
    return value is None or math.isnan(value)


def percent(share: float, decimals: int = 0) -> str:
    """A share in percent: 0.123 is "12%"."""
    return f"{share:.{decimals}%}"


def two_digits(share: float) -> str:
    """A share in percent with two significant digits: 0.00011 is "0.011%"."""
    return f"{float(f'{100 * share:.2g}'):g}%"


def p_value(value: float) -> str:
    """A p-value with three decimals, or one significant digit below 0.001."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def listed(names: Sequence[str]) -> str:
    """Join names as "A, B and C"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def bullet(text: str) -> str:
    """A text as one list item on one line."""
    return f"- {' '.join(text.split())}\n"


def paragraph(text: str) -> str:
    """A text as one paragraph on one line, with an empty line after it."""
    return f"{' '.join(text.split())}\n\n"


FILTERS = {each.__name__: each for each in (interval, percent, two_digits, p_value, listed, bullet, paragraph)}
