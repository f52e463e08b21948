"""A plan in words and columns."""

from headatlas.cost.plan import LOAD_SECONDS, Plan, Row

GIB, MIB = 2**30, 2**20
HEADER = ("rule", "jobs", "loads", "steps", "passes", "GiB a job", "minutes", "MiB on disk")


def described(plan: Plan) -> str:
    """The plan of one model: a table of its rules and the time of the whole run."""
    tokens = [len(item["prompt_ids"]) for items in plan.items.values() for item in items]
    place = "a GPU" if plan.asks.on_gpu(plan.model) else "the CPU"
    lines = [
        f"{plan.model}: {plan.n_layers} layers of {plan.n_heads} heads on {place}; {len(tokens):,} items of "
        f"{len(plan.items)} tasks, {sum(tokens) / len(tokens):.0f} tokens a prompt",
        f"speed: {plan.speed.source}",
        "",
        *_columns([HEADER, *map(_cells, plan.rows), _cells(_sum(plan.rows))]),
        "",
        f"loads: {plan.loads}, {plan.load_seconds / 60:.1f} minutes if one takes {LOAD_SECONDS} s and a second per GB "
        "of weights; the table leaves them out",
        f"the whole run: {plan.seconds / 60:.1f} minutes, with {plan.at_once} job{'s' * (plan.at_once > 1)} that "
        f"run{'s' * (plan.at_once == 1)} the model at once",
    ]
    if any(row.at_most for row in plan.rows):
        lines.append("<: at most, because it depends on results")
    return "\n".join(lines)


def _sum(rows: list[Row]) -> Row:
    names = ("jobs", "loads", "seconds", "disk")
    return Row("together", **{name: sum(getattr(row, name) for row in rows) for name in names})


def _cells(row: Row) -> tuple[str, ...]:
    bound = "<" if row.at_most else ""
    return (
        row.rule,
        f"{row.jobs:,}",
        f"{row.loads}" if row.loads else "",
        f"{bound}{row.steps:,}" if row.steps else "",
        f"{bound}{row.passes:,.0f}" if row.passes else "",
        f"{row.memory / GIB:.1f}" if row.memory else "",
        f"{bound}{row.seconds / 60:.1f}",
        f"{row.disk / MIB:,.1f}",
    )


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as text: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_padded(row, widths)).rstrip() for row in rows]


def _padded(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
