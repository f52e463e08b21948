"""Writes what the tables show as sentences, each with its numbers, interval and test; polars, never torch.

A difference is called a difference only where its adjusted p-value is below `LEVEL`; otherwise that is said. Of the map
of a task that the model does not do, nothing is said.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from headatlas.evidence.capability import incapable
from headatlas.evidence.reliability import WANTED
from headatlas.evidence.summary import COMPLETE, LEVEL
from headatlas.stats.head_statistics import FEWEST

RELIABLE = 0.7  # below this a map's ranking of heads is called shaky

LIMITS = """\
- Effects of single heads are lower bounds: other heads and layer norms make up for a lost head \
(self-repair), and heads that can replace each other all look unimportant. \
The knock-out curves show heads taken together.
- Everything here holds for this checkpoint, these items and this baseline, not for the architecture.
- The number of heads with q < 0.05 grows with the number of questions; compare it between tasks of equal \
size only.
- Comparisons of tasks take their questions for different ones; where tasks share questions, as in CogQA, \
p-values are approximate.
- Importance is an absolute value, so noise adds to it: with few questions a map looks more even than it is.
- `attribution` is a first-order estimate of `ablation`. `probe` shows what can be decoded, not what is \
used; \
its intervals take the trained probes as given, and so do its p-values where `methods.probe.permutations` is 0. \
Otherwise these compare it with probes to which no head tells the task; beside heads that do, a head that does \
not may be called more often than stated.
"""


class Tables(NamedTuple):
    """What there is to write about; None where a table was not made."""

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
    area: pl.DataFrame | None = None
    dissociation: pl.DataFrame | None = None
    dominance: pl.DataFrame | None = None


TASK_COLUMNS = (("task",), ("task_a", "task_b"), ("source_task", "target_task"), ("task", "matched_to"))


def write_findings(
    tables: Tables,
    confidence: float,
    names: Mapping[str, str],
    slow_ways: Sequence[str] = (),
    rounding: str | None = None,
) -> str:
    """The findings as Markdown.

    Args:
        names: from each task's key to what the figures call it, in the order of the figures.
        slow_ways: sentences on jobs that took a slower way than they could have (`engine_record.slow_ways`).
        rounding: a sentence on the noise of the numbers (`engine_record.rounding`).
    """
    model, known = tables.summary["model"][0], _of_done_tasks(tables, names)
    lines = [f"# Findings: {model}", ""]
    lines += [line for sentence in slow_ways for line in (f"**Slow:** {sentence}.", "")]
    lines += [*_capability(_named(tables.capability, names)), ""]
    if known.summary.is_empty():
        return "\n".join([*lines, *_controls(known)])
    lines += [
        f"Square brackets hold {confidence:.0%} intervals over questions. Tasks are compared in "
        "pairs; a difference is "
        f"called one only where its p-value, adjusted for all pairs (Holm), is below {LEVEL}.",
        "",
    ]
    for method in known.summary["method"].unique(maintain_order=True):
        lines += [f"## By `{method}`", "", *_overview(known, method), ""]
        lines += [f"- {sentence}" for sentence in _sentences(known, method)] + [""]
        lines += ["Hottest heads (layer.head, effect):", "", *_hottest(_readable(known, method).hottest, method), ""]
    limits = LIMITS if rounding is None else f"{LIMITS}- {rounding}\n"
    return "\n".join([*lines, *_controls(known), "## Limits", "", limits])


def _of_done_tasks(tables: Tables, names: Mapping[str, str]) -> Tables:
    """The rows of tasks that the model does, by the names and in the order of the figures.

    The dominance of the dissociation matrix is taken over all tasks: it goes where the model does not do them all.
    """
    done = [task for (task,) in tables.capability.filter("capable").select("task").iter_rows()]
    kept = {}
    for field, table in tables._asdict().items():
        columns = () if table is None else _task_columns(table)
        if columns and field not in ("capability", "surface"):  # the surface control knows no model
            table = table.filter(pl.col(column).is_in(done) for column in columns)
        kept[field] = table if table is None else _named(table, names)
    if len(done) < tables.capability.height:
        kept["dominance"] = None
    return Tables(**kept)


def _named(table: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """Keys of tasks replaced by names, rows in the order of these; two tasks of one name keep their keys beside it."""
    columns = _task_columns(table)
    place = {task: index for index, task in enumerate(names)}
    taken = [" ".join(name.split()) for name in names.values()]
    said = {
        task: name if taken.count(name) == 1 else f"{name} ({task})" for task, name in zip(names, taken, strict=True)
    }
    order = [pl.col(column).replace_strict(place, default=len(place), return_dtype=pl.Int32) for column in columns]
    table = table.sort(order, maintain_order=True) if order else table
    return table.with_columns(pl.col(columns).replace(said)) if columns else table


def _task_columns(table: pl.DataFrame) -> tuple[str, ...]:
    """The columns that hold keys of tasks."""
    return max((names for names in TASK_COLUMNS if set(names) <= set(table.columns)), key=len, default=())


def _capability(table: pl.DataFrame) -> list[str]:
    """Can the model do the tasks at all?"""
    lines = [
        "## Does the model do the tasks?",
        "",
        "| task | questions | exact match | chance | log-probability of the answer (nats per token) | done |",
        f"|{' --- |' * 6}",
    ]
    for row in table.iter_rows(named=True):
        cells = [
            row["task"], str(row["n_questions"]), _with_interval(row, "exact_match", ".0%"), f"{row['chance']:.0%}",
            _with_interval(row, "log_prob", ".3f"), "yes" if row["capable"] else "**no**",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Exact match: share of the items, of both splits, whose whole answer is the model's own first choice. Chance: "
        "what the most frequent answer, given to every item, would score. The model does a task where the interval of "
        "its exact match lies above chance.",
    ]
    failed = incapable(table)
    if len(failed) == table.height:
        return [
            *lines,
            "",
            "**The model does none of these tasks.** Its maps show nothing of them, so nothing is said.",
        ]
    if failed:
        lines += [
            "",
            f"**Not done: {_listed(failed)}.** Such a map shows nothing of its task: none is spoken of below.",
        ]
    return lines


def _controls(tables: Tables) -> list[str]:
    between = [*_agreement(tables.agreement), *_surface(tables.surface), *_formats(tables.formats)]
    return ["## Controls", "", *(f"- {sentence}" for sentence in between), ""] if between else []


def _overview(tables: Tables, method: str) -> list[str]:
    """One row per task of the figures the sentences speak of."""
    lines = [
        "| task | heads with q < 0.05 (help, hurt) | elbow | effective heads | top 5 % hold | centre "
        "(layer) | "
        "exclusive | reliability | of values |",
        f"|{' --- |' * 9}",
    ]
    for row in tables.summary.filter(method=method).iter_rows(named=True):
        counts = f"{row['significant']} of {row['heads']} ({row['helping']}, {row['hurting']})"
        counts = counts if row["tested"] else "not tested"
        cells = [
            row["task"], counts, str(row["elbow"]), _with_interval(row, "effective_heads", ".1f"),
            _with_interval(row, "top_5_percent", ".0%"), _with_interval(row, "layer_centre", ".2f"),
            str(row["exclusive"]), *_reliability_of(tables.reliability, method, row["task"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _sentences(tables: Tables, method: str) -> list[str]:
    incomplete = _incomplete(tables.summary.filter(method=method))
    tables = _readable(tables, method)
    summary = tables.summary.filter(method=method)
    if summary.is_empty():
        return incomplete
    tests = tables.comparisons.filter(method=method)
    layers = tables.profiles["layer"].max()
    return [
        *incomplete,
        *_extreme(summary, tests, "effective_heads", "The densest map, spread over most heads, is", ".1f", "heads"),
        *_extreme(summary, tests, "layer_centre", "The deepest is", ".2f", f"(centre, layers 0 to {layers})"),
        *_sparsity(summary),
        *_clusters(tables.profiles.filter(method=method), layers + 1),
        *_separation(summary, tables.overlap, method),
        *_shaky(tables.reliability, method),
        *_area(tables.area, method),
        *_dissociation(tables.dissociation, tables.dominance, method),
    ]


def _incomplete(summary: pl.DataFrame) -> list[str]:
    """What integrated gradients miss, and which of their maps are for that reason not read."""
    known = summary.drop_nulls("completeness_error").sort("completeness_error")
    if known.is_empty():
        return []
    ends = [f"{row['completeness_error']:.1%} ({row['task']})" for row in known[[0, -1]].iter_rows(named=True)]
    unread = known.filter(~pl.col("readable"))["task"].to_list()
    verdict = (
        f"More than {COMPLETE:.0%}: the map of {_listed(unread)} is not to be read, and nothing is said of it here; "
        "take more `steps`, or a baseline nearer to what heads put out, such as `mean`."
        if unread
        else f"None is above {COMPLETE:.0%}, so all can be read."
    )
    return [
        "The effects of all heads on an item should add up to its log-probability less that with every head at its "
        f"baseline. They miss it by {ends[0]} to {ends[1]} of it. {verdict}"
    ]


def _readable(tables: Tables, method: str) -> Tables:
    """The tables on maps without the rows of those that are not to be read."""
    unread = tables.summary.filter(pl.col("method") == method, ~pl.col("readable"))["task"].to_list()
    names = ("summary", "comparisons", "hottest", "profiles", "reliability", "overlap")
    kept = {name: table for name in names if (table := getattr(tables, name)) is not None}
    for name, table in kept.items():
        for column in {"task", "task_a", "task_b"} & set(table.columns):
            table = table.filter((pl.col("method") != method) | ~pl.col(column).is_in(unread))
        kept[name] = table
    return tables._replace(**kept)


def _extreme(summary: pl.DataFrame, tests: pl.DataFrame, figure: str, phrase: str, digits: str, unit: str) -> list[str]:
    """Which task is highest in a figure, and from which others that is more than chance."""
    known = summary.drop_nulls([figure, f"{figure}_low"]).sort(figure, descending=True)
    if known.height < 2:
        return []
    first = known.row(0, named=True)
    task, differ, alike = first["task"], [], []
    for other in known["task"].to_list()[1:]:
        pair = tests.filter(
            pl.col("figure") == figure,
            pl.col("task_a").is_in([task, other]) & pl.col("task_b").is_in([task, other]),
        )
        (differ if pair["p_adjusted"][0] < LEVEL else alike).append(other)
    claim = f"{phrase} **{task}**: {_with_interval(first, figure, digits)} {unit}."
    if not differ:
        return [f"{claim} No other task differs from it significantly, so this is no ranking."]
    rest = f", not from {_listed(alike)}" if alike else ""
    return [f"{claim} It differs significantly from {_listed(differ)}{rest}."]


def _sparsity(summary: pl.DataFrame) -> list[str]:
    known = summary.drop_nulls("top_5_percent").sort("top_5_percent")
    if known.is_empty():
        return ["No head has any effect on any task."]
    least, most = known.row(0, named=True), known.row(-1, named=True)
    top = max(1, round(0.05 * most["heads"]))
    return [
        f"Sparsity: the top 5 % of the heads ({top} of {most['heads']}) hold between "
        f"{_with_interval(least, 'top_5_percent', '.0%')} ({least['task']}) and "
        f"{_with_interval(most, 'top_5_percent', '.0%')} ({most['task']}) of the importance; "
        f"evenly spread it would be {top / most['heads']:.0%}."
    ]


def _clusters(profiles: pl.DataFrame, layers: int) -> list[str]:
    """The busiest layer of each task, called so where its interval lies above an even share."""
    shares = profiles.group_by("layer").agg(pl.col("share").is_null().all())["share"]
    without = 0 if shares.all() else shares.sum()  # layers without attention, in hybrid models
    above, even = [], 1 / (layers - without)
    for (task,), part in profiles.group_by("task", maintain_order=True):
        row = part.sort("share", descending=True, nulls_last=True).row(0, named=True)
        if row["ci_low"] is not None and row["ci_low"] > even:
            above.append(f"{task} in layer {row['layer']} ({_bracket(row, 'share', '.0%')})")
    if not above:
        return [f"No task has a layer whose share is reliably above an even one ({even:.0%})."]
    return [f"Where the clusters are (an even share would be {even:.0%} a layer): {'; '.join(above)}."]


def _separation(summary: pl.DataFrame, overlap: pl.DataFrame | None, method: str) -> list[str]:
    exclusive = summary.filter(pl.col("exclusive") > 0).sort("exclusive", descending=True)
    named = [f"{task} {n}" for task, n in exclusive.select("task", "exclusive").iter_rows()]
    sentences = [f"Heads significant for one task alone: {', '.join(named) if named else 'none'}."]
    pairs = None if overlap is None else overlap.filter(method=method).drop_nulls("p_adjusted")
    if pairs is None or pairs.is_empty():
        return sentences
    most = pairs.sort("jaccard", descending=True).row(0, named=True)
    sentences.append(
        f"Overlap between tasks (top {most['k']} heads, Jaccard): mean {pairs['jaccard'].mean():.2f}, "
        "most between "
        f"{most['task_a']} and {most['task_b']} ({most['jaccard']:.2f}). Beyond sharing "
        "layers, "
        f"{(pairs['p_adjusted'] < LEVEL).sum()} of {pairs.height} pairs of maps are correlated (permutation "
        "within layers, "
        "Holm-adjusted)."
    )
    return sentences


def _shaky(reliability: pl.DataFrame | None, method: str) -> list[str]:
    if reliability is None:
        return []
    known = reliability.filter(method=method).drop_nulls("reliability")
    if known.is_empty():
        return ["Too few questions to say how reliable the maps are."]
    rows = known.sort("reliability")
    shaky = [row["task"] for row in rows.iter_rows(named=True) if row["reliability"] < RELIABLE]
    lowest, highest = rows.row(0, named=True), rows.row(-1, named=True)
    verdict = f"Do not read the ranking of heads of {_listed(shaky)}." if shaky else f"None is below {RELIABLE}."
    return [
        f"Split-half reliability runs from {_bracket(lowest, 'reliability', '.2f')} "
        f"({lowest['task']}) to "
        f"{_bracket(highest, 'reliability', '.2f')} ({highest['task']}). {verdict}",
        *_values(known),
    ]


def _values(rows: pl.DataFrame) -> list[str]:
    """How reliable the importances themselves are, and how many questions would make everything so."""
    known = rows.drop_nulls("value_reliability").sort("value_reliability")
    if known.is_empty():
        return []
    lowest, highest = (_reliable_values(known.row(end, named=True)) for end in (0, -1))
    few = rows.filter((pl.col("reliability") < WANTED) | (pl.col("value_reliability") < WANTED))
    sentences = [
        "That counts all heads alike, however small their effects. Of the importances themselves, correlated over "
        f"heads, so that the hottest count most, the reliability runs from {lowest} to {highest}."
    ]
    if few.is_empty():
        return sentences
    needed = [_needed(row) for row in few.iter_rows(named=True)]
    return [
        *sentences,
        f"For a reliability of {WANTED} of the ranking (of the values) Spearman and Brown's formula asks for this many "
        f"questions: {'; '.join(needed)}. It takes all questions to be alike; where a few carry the mean of a head, "
        "the ranking gains less.",
    ]


def _reliable_values(row: dict) -> str:
    ends = {"ci_low": row["value_ci_low"], "ci_high": row["value_ci_high"]}
    return f"{_bracket(row | ends, 'value_reliability', '.2f')} ({row['task']})"


def _needed(row: dict) -> str:
    ranking, values = (
        "no number" if row[name] is None else f"{float(f'{row[name]:.2g}'):.0f}"
        for name in ("questions_needed", "value_questions_needed")
    )
    return f"{row['task']} {ranking} ({values}), now {row['n_questions']}"


def _area(area: pl.DataFrame | None, method: str) -> list[str]:
    """Knock-out curves against random heads, where the table was made."""
    rows = None if area is None else area.filter(method=method).drop_nulls("area")
    if rows is None or rows.is_empty():
        return []
    shown = [f"{row['task']} {_bracket(row, 'area', '.2f')}" for row in rows.iter_rows(named=True)]
    better = rows.filter(pl.col("ci_low") > 0).height
    return [
        "Knocked out together on held-out questions, the top heads cost more than random heads of "
        "the same layers "
        f"for {better} of {rows.height} tasks (area between the curves in nats per answer token, "
        "interval above 0): "
        f"{'; '.join(shown)}."
    ]


def _dissociation(table: pl.DataFrame | None, dominance: pl.DataFrame | None, method: str) -> list[str]:
    rows = None if table is None else table.filter(method=method)
    if rows is None or rows.is_empty():
        return []
    own = rows.filter(pl.col("source_task") == pl.col("target_task"))
    hurt = own.filter(pl.col("ci_low") > 0)
    cross = rows.filter(pl.col("source_task") != pl.col("target_task"), pl.col("ci_low") > 0)
    text = (
        f"Dissociation (the top {rows['k'][0]} heads together, held-out questions): a task's own top heads cost it "
        "more than matched random ones for "
        f"{hurt.height} of {own.height} "
        f"tasks; they also cost another task in {cross.height} of {rows.height - own.height} pairs."
    )
    merit = None if dominance is None else dominance.filter(method=method).drop_nulls("dominance")
    if merit is not None and not merit.is_empty():
        row = merit.row(0, named=True)
        called = "" if row["p_value"] < LEVEL else "not "
        text += (
            f" The diagonal stands out by {_bracket(row, 'dominance', '.2f')} nats per answer token; "
            "tasks are "
            f"{called}significantly separate (permutation p = {_p(row['p_value'])})."
        )
    return [text]


def _agreement(agreement: pl.DataFrame | None) -> list[str]:
    if agreement is None:
        return []
    sentences = []
    known = agreement.drop_nulls("p_adjusted")
    for (a, b), part in known.group_by("method_a", "method_b", maintain_order=True):
        called = (part["p_adjusted"] < LEVEL).sum()
        r = part["rank_correlation"]
        sentences.append(
            f"`{a}` and `{b}` rank heads alike beyond sharing layers for {called} of {part.height} "
            "tasks (rank "
            f"correlation {r.min():.2f} to {r.max():.2f}, mean {r.mean():.2f}; permutation within "
            f"layers, Holm-adjusted). {_on_hottest(part, a, b)}"
        )
    return sentences


def _on_hottest(part: pl.DataFrame, a: str, b: str) -> str:
    """What the second method says of the heads that are hottest by the first: a rank correlation hardly shows it."""
    opposite = (part["hottest_ratio"] < 0).sum()
    least, most = f"{part['same_sign'].min():.0%}", f"{part['same_sign'].max():.0%}"
    text = (
        f"Of each task's hottest head by `{a}`, `{b}` gives the opposite sign for {opposite} of {part.height} tasks, "
        f"and the ranks {_numbers(part['hottest_rank'])}; of the top {part['k'][0]} heads "
        f"{least if least == most else f'{least} to {most}'} have the same sign by both."
    )
    shares = part.filter("same_unit")["hottest_ratio"].abs()
    if shares.is_empty():
        return text
    return f"{text} The hottest head's effect is {_share(shares.min())} to {_share(shares.max())} of its size by `{a}`."


def _numbers(ranks: pl.Series) -> str:
    return ", ".join(map(str, ranks))


def _share(value: float) -> str:
    """A share in percent, with two digits."""
    return f"{float(f'{100 * value:.2g}'):g} %"


def _surface(surface: pl.DataFrame | None) -> list[str]:
    if surface is None:
        return []
    rows = {row["input"]: row for row in surface.filter(task="(all)").iter_rows(named=True)}
    shown = ", ".join(f"{_bracket(rows[name], 'accuracy', '.0%')} from the {name}" for name in ("prompt", "answer"))
    return [
        f"A bag of words that sees no activation tells the tasks apart with an accuracy of {shown}, "
        f"{_bracket(rows['both'], 'accuracy', '.0%')} from both (largest task: "
        f"{rows['both']['majority']:.0%}). What "
        "a probe reaches beyond that is the model's doing; what it does not may be format alone."
    ]


def _formats(formats: pl.DataFrame | None) -> list[str]:
    """Whether maps change when a task's items are matched in their answers' format to another task's."""
    if formats is None or formats.is_empty():
        return []
    pairs = formats.filter(method=formats["method"][0])
    apart = pairs.filter(formats=0).height // 2
    sentences = [
        f"Answer format (number of words, digits or none): {apart} of {pairs.height // 2} pairs of tasks have none in "
        "common, so that nothing tells their maps' difference from their answers' difference; the probe, which learns "
        "from formats, would have to be trained again without them."
    ]
    for (method,), part in formats.group_by("method", maintain_order=True):
        maps = _matched_maps(part)
        if not maps:
            sentences.append(f"No map by `{method}` changes when a task is matched in format to another.")
            continue
        called = [_matched(row) for row in maps if row["p_adjusted"] < LEVEL]
        least = min(maps, key=lambda row: row["rank_correlation"])
        sentences.append(
            f"Matched in format to another task, {len(maps)} maps by `{method}` change. The least like its map on all "
            f"items is that of {_matched(least)}: rank correlation {_bracket(least, 'rank_correlation', '.2f')} "
            f"({least['expected']:.2f} expected of as many items of any format), and {least['top_kept']:.0%} of the "
            f"top {least['k']} heads stay ({least['top_expected']:.0%} expected). Less alike than expected, formats "
            f"shuffled over questions and Holm-adjusted: {'; '.join(called) if called else 'none'}."
        )
    return sentences


def _matched_maps(part: pl.DataFrame) -> list[dict]:
    """The maps that matching changes, once each: tasks with the same formats lead to the same map."""
    same = ["task", "n_items", "rank_correlation", "expected"]
    known = part.drop_nulls("rank_correlation").group_by(same, maintain_order=True)
    return list(known.agg(pl.col("matched_to"), pl.exclude("matched_to").first()).iter_rows(named=True))


def _matched(row: dict) -> str:
    return f"{row['task']} matched to {_listed(row['matched_to'])}"


def _hottest(hottest: pl.DataFrame, method: str) -> list[str]:
    lines = []
    for (task,), part in hottest.filter(method=method).group_by("task", maintain_order=True):
        shown = []
        for row in part.filter(pl.col("q_value") < LEVEL).iter_rows(named=True):
            shown.append(f"{row['layer']}.{row['head']} {_bracket(row, 'effect', '+.3f')}")
        none = f"none of the {part.height} hottest has q < 0.05"
        none = none if part["q_value"].count() else f"not tested with fewer than {FEWEST} questions"
        lines.append(f"- {task}: {', '.join(shown) if shown else none}")
    return lines


def _reliability_of(reliability: pl.DataFrame | None, method: str, task: str) -> tuple[str, str]:
    """That of the ranking and that of the values."""
    rows = None if reliability is None else reliability.filter(method=method, task=task)
    if rows is None or rows.is_empty():
        return "", ""
    row = rows.row(0, named=True)
    values = row | {"ci_low": row["value_ci_low"], "ci_high": row["value_ci_high"]}
    return _bracket(row, "reliability", ".2f"), _bracket(values, "value_reliability", ".2f")


def _with_interval(row: dict, figure: str, digits: str) -> str:
    return _bracket(row | {"ci_low": row[f"{figure}_low"], "ci_high": row[f"{figure}_high"]}, figure, digits)


def _bracket(row: dict, figure: str, digits: str) -> str:
    value, low, high = (row[key] for key in (figure, "ci_low", "ci_high"))
    if value is None or np.isnan(value):
        return "unknown"
    if low is None or np.isnan(low):
        return f"{value:{digits}} [unknown]"
    return f"{value:{digits}} [{low:{digits}}, {high:{digits}}]"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
