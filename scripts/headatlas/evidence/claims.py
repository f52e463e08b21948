"""What the tables of a model allow to be claimed, as plain values: rows of tables, counts and names. No sentences.

Every function takes tables of one method (or, for controls, of all) and returns None or nothing where a table has
nothing to say. A difference counts only where its adjusted p-value is below `LEVEL`.
"""

import polars as pl

from headatlas.evidence.head_groups import differs
from headatlas.evidence.ranking_tests import FIGURES
from headatlas.evidence.reliability import WANTED
from headatlas.evidence.roles import OF_SEQUENCES, OF_TASKS
from headatlas.evidence.summary import COMPLETE, LEVEL
from headatlas.stats.ranking import top_count

RELIABLE = 0.7  # the ranking of heads of a map whose reliability is lower should not be read


def overview(summary: pl.DataFrame, reliability: pl.DataFrame | None) -> list[dict]:
    """The rows of the summary, each with `reliable`: the row of the reliability table, None where there is none."""
    known = {} if reliability is None else {row["task"]: row for row in _reliability_rows(reliability)}
    return [row | {"reliable": known.get(row["task"])} for row in summary.iter_rows(named=True)]


def written(capability: pl.DataFrame) -> list[dict]:
    """The rows of the capability table of tasks whose answers the model writes itself."""
    return capability.drop_nulls("check").to_dicts() if "check" in capability.columns else []


def stopped(summary: pl.DataFrame) -> dict | None:
    """The heads that adaptive ablation did not measure on all questions.

    Returns:
        `least` and `most` (rows of the summary; None where every head was measured on all questions).
    """
    known = summary.sort("stopped")
    return _ends(known) if known["stopped"].sum() else None


def completeness(summary: pl.DataFrame) -> dict | None:
    """How far integrated gradients miss what they should add up to.

    Returns:
        `least` and `most` (rows of the summary), `limit` (share), `unread` (tasks above it).
    """
    known = summary.drop_nulls("completeness_error").sort("completeness_error")
    if known.is_empty():
        return None
    return _ends(known) | {"limit": COMPLETE, "unread": known.filter(~pl.col("readable"))["task"].to_list()}


def extreme(summary: pl.DataFrame, comparisons: pl.DataFrame, figure: str) -> dict | None:
    """The task with the largest value of a figure, and which others differ from it.

    Returns:
        `first` (its row), `unlike` and `alike` (the other tasks, largest value first).
    """
    known = summary.drop_nulls([figure, f"{figure}_low"]).sort(figure, descending=True)
    if known.height < 2:
        return None
    first, *others = known["task"].to_list()
    tests = comparisons.filter(figure=figure)
    unlike = [other for other in others if _p_adjusted(tests, first, other) < LEVEL]
    alike = [other for other in others if other not in unlike]
    return {"first": known.row(0, named=True), "unlike": unlike, "alike": alike}


def _p_adjusted(tests: pl.DataFrame, task: str, other: str) -> float:
    pair = pl.col("task_a").is_in([task, other]) & pl.col("task_b").is_in([task, other])
    return tests.filter(pair)["p_adjusted"].item()


def sparsity(summary: pl.DataFrame) -> dict | None:
    """How much the top 5 % of the heads hold.

    Returns:
        `least` and `most` (rows of the summary), `top` of `heads`, `even` (their share if all heads were alike).
    """
    known = summary.drop_nulls("top_5_percent").sort("top_5_percent")
    if known.is_empty():
        return None
    heads = known["heads"][-1]
    top = top_count(0.05, heads)
    return _ends(known) | {"top": top, "heads": heads, "even": top / heads}


def clusters(profiles: pl.DataFrame) -> dict:
    """The busiest layer of each task, where its interval lies above an even share.

    Layers without attention, in hybrid models, have no share and count for nothing.

    Returns:
        `even` (share), `tasks` (rows of the profile).
    """
    unknown = profiles.group_by("layer").agg(pl.col("share").is_null().all())["share"]
    absent = 0 if unknown.all() else unknown.sum()
    busiest = (
        part.sort("share", descending=True, nulls_last=True).row(0, named=True)
        for _, part in profiles.group_by("task", maintain_order=True)
    )
    even = 1 / (profiles["layer"].max() + 1 - absent)
    return {"even": even, "tasks": [row for row in busiest if row["ci_low"] is not None and row["ci_low"] > even]}


def exclusive(summary: pl.DataFrame) -> list[dict]:
    """The tasks that have heads significant for them alone, most such heads first: rows of the summary."""
    return summary.filter(pl.col("exclusive") > 0).sort("exclusive", descending=True).to_dicts()


def overlap(pairs: pl.DataFrame | None) -> dict | None:
    """How far the top heads of two tasks are the same, and their maps alike.

    Returns:
        `mean` (Jaccard), `most` (the row of the most similar pair), `correlated` of `pairs` (beyond sharing layers).
    """
    known = _known(pairs, "p_adjusted")
    if known is None:
        return None
    most = known.sort("jaccard", descending=True).row(0, named=True)
    correlated = (known["p_adjusted"] < LEVEL).sum()
    return {"mean": known["jaccard"].mean(), "most": most, "correlated": correlated, "pairs": known.height}


def reliability(table: pl.DataFrame | None) -> dict | None:
    """How far two halves of the questions give the same map; None where that was not asked.

    Returns:
        `of_ranking` and `of_values` (`least` and `most`, rows; None where unknown), `shaky` (tasks below `enough`),
        `needed` (`task`, and to two digits the questions `for_ranking` and `for_values` that make it `wanted`;
        questions there are `now`).
    """
    if table is None:
        return None
    rows = pl.DataFrame(_reliability_rows(table.drop_nulls("reliability")), infer_schema_length=None)
    found = {"of_ranking": None, "of_values": None, "shaky": [], "needed": []}
    found |= {"enough": RELIABLE, "wanted": WANTED}
    if rows.is_empty():
        return found
    ordered = rows.sort("reliability")
    found |= {"of_ranking": _ends(ordered), "shaky": ordered.filter(pl.col("reliability") < RELIABLE)["task"].to_list()}
    values = rows.drop_nulls("value_reliability").sort("value_reliability")
    if not values.is_empty():
        low = (pl.col("reliability") < WANTED) | (pl.col("value_reliability") < WANTED)
        found |= {"of_values": _ends(values), "needed": [_needed(row) for row in rows.filter(low).to_dicts()]}
    return found


def _reliability_rows(table: pl.DataFrame) -> list[dict]:
    """Rows whose intervals are called after their figures."""
    ends = {f"{prefix}ci_{end}": f"{prefix}reliability_{end}" for prefix in ("", "value_") for end in ("low", "high")}
    return table.rename(ends).to_dicts()


def _needed(row: dict) -> dict:
    ranking, values = (
        None if row[name] is None else int(float(f"{row[name]:.2g}"))
        for name in ("questions_needed", "value_questions_needed")
    )
    return {"task": row["task"], "for_ranking": ranking, "for_values": values, "now": row["n_questions"]}


def area(table: pl.DataFrame | None) -> dict | None:
    """Knock-out curves of top heads against those of random heads.

    Returns:
        `tasks` (rows of the area table), `above` (how many have an interval above 0).
    """
    known = _known(table, "area")
    return known if known is None else {"tasks": known.to_dicts(), "above": (known["ci_low"] > 0).sum()}


def rankings(area: pl.DataFrame | None, cpr: pl.DataFrame | None, tests: pl.DataFrame | None) -> dict | None:
    """How well each ranking predicts what sets of heads do; None where that was not asked.

    Returns:
        `baseline`, `rankings` (number of random ones), `rows` (of the CPR table, each with `area`: the row of the area
        table, None for random rankings), `undefined` (tasks without CPR), and `figures`: for each `figure` its `pairs`:
        `a`, `b`, and of `tested` tasks the number in which a is significantly `better` and `worse` than b.
    """
    if cpr is None or cpr.is_empty():
        return None
    areas = {(row["method"], row["task"]): row for row in area.iter_rows(named=True)}
    tasks = cpr["task"].unique(maintain_order=True).to_list()
    rows = [row | {"area": areas.get((row["method"], row["task"]))} for row in cpr.iter_rows(named=True)]
    return {
        "baseline": cpr["baseline"][0],
        "rankings": cpr["rankings"].max(),
        "rows": sorted(rows, key=lambda row: tasks.index(row["task"])),
        "undefined": cpr.filter(pl.col("cpr").is_null())["task"].unique(maintain_order=True).to_list(),
        "figures": [
            {"figure": figure, "pairs": _pairs(part, FIGURES[figure])}
            for (figure,), part in tests.drop_nulls("p_adjusted").group_by("figure", maintain_order=True)
        ],
    }


def _pairs(tests: pl.DataFrame, more_is_better: bool) -> list[dict]:
    sure = pl.col("p_adjusted") < LEVEL
    ahead = pl.col("difference") > 0 if more_is_better else pl.col("difference") < 0
    counted = tests.group_by("method_a", "method_b", maintain_order=True).agg(
        better=(sure & ahead).sum(), worse=(sure & ~ahead).sum(), tested=pl.len()
    )
    return counted.rename({"method_a": "a", "method_b": "b"}).to_dicts()


def dissociation(cells: pl.DataFrame | None) -> dict | None:
    """Whether knocking out a task's top heads costs the task, and whether it costs others.

    Returns:
        `k` (heads together), `own_hurt` of `own` tasks, `others_hurt` of `others` pairs.
    """
    known = _known(cells, "effect")
    if known is None:
        return None
    own = known.filter(pl.col("source_task") == pl.col("target_task"))
    others = known.filter(pl.col("source_task") != pl.col("target_task"))
    hurt = [(part["ci_low"] > 0).sum() for part in (own, others)]
    return {"k": known["k"][0], "own_hurt": hurt[0], "own": own.height, "others_hurt": hurt[1], "others": others.height}


def dominance(table: pl.DataFrame | None) -> dict | None:
    """The row of the dominance table, which has one per method."""
    known = _known(table, "dominance")
    return known if known is None else known.row(0, named=True)


def hottest(table: pl.DataFrame) -> list[dict]:
    """The hottest heads of each task: `task`, `shown` (how many), `tested`, `significant` and `all` (rows)."""
    return [
        {
            "task": task,
            "shown": part.height,
            "tested": part["q_value"].count() > 0,
            "significant": part.filter(pl.col("q_value") < LEVEL).to_dicts(),
            "all": part.to_dicts(),
        }
        for (task,), part in table.group_by("task", maintain_order=True)
    ]


def agreement(table: pl.DataFrame | None) -> list[dict]:
    """How far every two methods agree, over tasks.

    Returns:
        `a`, `b` (methods), `alike` of `tasks`, `correlation` (least, largest, mean), and of the heads hottest by `a`:
        `opposite` (tasks whose hottest head has the other sign by `b`), `ranks` (of it by `b`, task by task), `k` and
        `same_sign` (least and largest share of the k hottest), `sizes` (least and largest effect by `b` over that by
        `a`; empty where they have no common unit).
    """
    known = _known(table, "p_adjusted")
    if known is None:
        return []
    return [
        {"a": a, "b": b, "alike": (part["p_adjusted"] < LEVEL).sum(), "tasks": part.height}
        | _on_rankings(part)
        | _on_hottest(part)
        for (a, b), part in known.group_by("method_a", "method_b", maintain_order=True)
    ]


def _on_rankings(part: pl.DataFrame) -> dict:
    r = part["rank_correlation"]
    return {"correlation": [r.min(), r.max(), r.mean()]}


def _on_hottest(part: pl.DataFrame) -> dict:
    sizes = part.filter("same_unit")["hottest_ratio"].abs()
    return {
        "opposite": (part["hottest_ratio"] < 0).sum(),
        "ranks": part["hottest_rank"].to_list(),
        "k": part["k"][0],
        "same_sign": [part["same_sign"].min(), part["same_sign"].max()],
        "sizes": [] if sizes.is_empty() else [sizes.min(), sizes.max()],
    }


def surface(table: pl.DataFrame | None) -> dict | None:
    """How well words distinguish the tasks: the rows over all tasks by input (`prompt`, `answer`, `both`)."""
    return None if table is None else {row["input"]: row for row in table.filter(task="(all)").to_dicts()}


def formats(table: pl.DataFrame | None) -> dict | None:
    """Whether maps change when a task's items are matched in their answers' format to another task's.

    Returns:
        `apart` of `pairs` (of tasks with no format in common), `methods`: `name`, `changed` (maps), `least` (the map
        least like that on all items) and `unlike` (maps less alike than expected), whose `matched_to` lists tasks.
    """
    if table is None or table.is_empty():
        return None
    pairs = table.filter(method=table["method"][0])
    methods = []
    for (name,), part in table.group_by("method", maintain_order=True):
        maps = _matched_maps(part)
        least = min(maps, key=lambda row: row["rank_correlation"], default=None)
        unlike = [row for row in maps if row["p_adjusted"] < LEVEL]
        methods.append({"name": name, "changed": len(maps), "least": least, "unlike": unlike})
    return {"apart": pairs.filter(formats=0).height // 2, "pairs": pairs.height // 2, "methods": methods}


def answers(table: pl.DataFrame | None) -> list[dict]:
    """What the hottest heads of each task carry.

    Returns:
        `task`, `heads` (how many were patched), `tested`, and those that carry the `answer` and the `question` (rows of
        the table), hottest first.
    """
    if table is None:
        return []
    return [
        {"task": task, "heads": part.height, "tested": part["p_adjusted"].count() > 0}
        | {kind: part.filter(carries=kind).to_dicts() for kind in ("answer", "question")}
        for (task,), part in table.group_by("task", maintain_order=True)
    ]


def groups(table: pl.DataFrame | None) -> list[dict]:
    """Whether query heads that share a key-value head work together.

    Returns:
        for each task `task`, `count` (of groups), `tested`, and those further from zero than the sum of their heads
        (`more`) and nearer to zero (`less`), q < LEVEL, furthest from the sum first: rows of the table.
    """
    if table is None:
        return []
    ordered = table.sort(pl.col("difference").abs(), descending=True, nulls_last=True, maintain_order=True)
    ordered = ordered.with_columns(differs=differs())
    parts = {task: ordered.filter(task=task) for task in table["task"].unique(maintain_order=True)}
    return [
        {"task": task, "count": part.height, "tested": part["q_value"].count() > 0}
        | {kind: part.filter(differs=kind).to_dicts() for kind in ("more", "less")}
        for task, part in parts.items()
    ]


def changes(table: pl.DataFrame | None) -> list[dict]:
    """What changed from another run: for each method `method`, `compared_to` and `tasks`, its rows of `map-changes`."""
    if table is None:
        return []
    return [
        {"method": method, "compared_to": part["compared_to"][0], "tasks": part.to_dicts()}
        for (method,), part in table.group_by("method", maintain_order=True)
    ]


def roles(table: pl.DataFrame | None, summary: pl.DataFrame) -> dict | None:
    """Whether the hottest heads of each task are those of a role; maps that should not be read are left out.

    Returns:
        `names` (of the roles that are known), `heads`, `hottest` and `strongest` (the most heads of each kind), and by
        method `name`, `rows` (`task`, and its rows of the table by role) and `above_chance`: rows with more heads in
        than chance gives, the clearest first.
    """
    if table is None:
        return None
    unread = summary.filter(~pl.col("readable")).select("method", "task")
    known = table.join(unread, on=["method", "task"], how="anti", maintain_order="left")
    if known.is_empty():
        return None
    most = known.select(pl.col("heads", "hottest", "strongest").max()).row(0, named=True)
    methods = []
    for (method,), part in known.group_by("method", maintain_order=True):
        above = part.filter(pl.col("p_adjusted") < LEVEL).sort("p_adjusted", maintain_order=True)
        rows = [
            {"task": task, "by": {row["role"]: row for row in of_task.iter_rows(named=True)}}
            for (task,), of_task in part.group_by("task", maintain_order=True)
        ]
        methods.append({"name": method, "rows": rows, "above_chance": above.to_dicts()})
    names = [role for role in (*OF_SEQUENCES, *OF_TASKS) if role in known["role"]]
    return {"names": names, "methods": methods} | most


def generated(table: pl.DataFrame | None) -> dict | None:
    """How often the model writes a right answer without the top heads of a map, against random ones.

    Returns:
        `k`, `draws` (of random sets), `tasks` (for each its rows `none` and `top`, and `random`, the mean accuracy over
        draws), and the names of tasks in which the top heads cost `more` or `less` than random ones, and of those that
        are `untested`; None where that was not asked.
    """
    if table is None or table.is_empty():
        return None
    top = table.filter(selection="top")
    clear = top.filter(pl.col("p_adjusted") < LEVEL)  # NaN, with few questions, is not
    random = table.filter(selection="random")
    mean = dict(random.group_by("task").agg(pl.col("accuracy").mean()).iter_rows())
    none = {row["task"]: row for row in table.filter(selection="none").iter_rows(named=True)}
    return {
        "k": top["k"][0],
        "draws": random["draw"].n_unique(),
        "tasks": [
            {"task": row["task"], "none": none[row["task"]], "top": row, "random": mean[row["task"]]}
            for row in top.iter_rows(named=True)
        ],
        "more": clear.filter(pl.col("below_random") > 0)["task"].to_list(),
        "less": clear.filter(pl.col("below_random") < 0)["task"].to_list(),
        "untested": top.filter(pl.col("p_value").is_nan())["task"].to_list(),
    }


def classes(table: pl.DataFrame | None) -> list[dict]:
    """What gates that were pushed open and shut say of the heads of each task.

    Returns:
        for each task `task`, `heads` (their number), `stability` (mean share of seeds that agree on a head's class),
        `facilitating` and `interfering`: rows of the table, most stable first; `irrelevant`: their number.
    """
    if table is None:
        return []
    ordered = table.sort("stability", descending=True, maintain_order=True)
    return [
        {"task": task, "heads": part.height, "stability": part["stability"].mean()}
        | {kind: part.filter(pl.col("class") == kind).to_dicts() for kind in ("facilitating", "interfering")}
        | {"irrelevant": part.filter(pl.col("class") == "irrelevant").height}
        for task in table["task"].unique(maintain_order=True)
        for part in [ordered.filter(task=task)]
    ]


def _matched_maps(part: pl.DataFrame) -> list[dict]:
    """The maps that matching changes, once each: tasks with the same formats lead to the same map."""
    same = ["task", "n_items", "rank_correlation", "expected"]
    known = part.drop_nulls("rank_correlation").group_by(same, maintain_order=True)
    return known.agg(pl.col("matched_to"), pl.exclude("matched_to").first()).to_dicts()


def _known(table: pl.DataFrame | None, column: str) -> pl.DataFrame | None:
    """The rows in which a column is known; None where there are none."""
    known = table if table is None else table.drop_nulls(column)
    return None if known is None or known.is_empty() else known


def _ends(ordered: pl.DataFrame) -> dict:
    return {"least": ordered.row(0, named=True), "most": ordered.row(-1, named=True)}
