"""Write the data of a model's page as scripts: all maps, the items shown, and one file per head.

Reads the importance table, the table of measure_capability, the folder of effects, items and traces of all tasks, and
where they exist the files of attend_items and the tables of answer_control, head_groups, head_roles and compare_heads;
writes a folder (see `headatlas.page`), with effects in the methods' units.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.evidence.importance import read_importance
from headatlas.files.attention import read_attention
from headatlas.files.scores import read_maps
from headatlas.jobs.cli import atomic_folder, run
from headatlas.page.heads import Heads
from headatlas.page.items import shown_items
from headatlas.page.javascript import write_script
from headatlas.page.maps import method_map, shape_of
from headatlas.page.overview import example_method, overview


@dataclass(frozen=True)
class Settings:
    """effects: file names per method in {method}/, with placeholder {task}; methods: their settings; groups: key-value
    heads of a layer; items: all | correct; shown: items of a task on the page; examples: items of a head.
    """

    model: str
    tasks: list[str]
    methods: dict[str, dict]
    effects: dict[str, list[str]]
    groups: int
    metric: str
    confidence: float
    items: str
    shown: int
    examples: int


def main(
    settings: Settings,
    importance: Path,
    capability: Path,
    effects: Path,
    items: list[Path],
    traces: list[Path],
    data: Path,
    attention: list[Path] = (),
    answers: Path | None = None,
    group_effects: Path | None = None,
    described: Path | None = None,
    roles: Path | None = None,
    changes: Path | None = None,
) -> None:
    table = read_importance(importance)
    shown, rows = {}, {}
    for method, task, read in read_maps(effects, settings.effects, settings.tasks, settings.items):
        if read.seeds is None:
            rows[task] = read.row[read.row < settings.shown]
            shown.setdefault(method, {})[task] = read.effect[: len(rows[task])]
    attended = {
        task: read_attention(path).of_items(rows[task])
        for task, path in zip(settings.tasks, attention, strict=bool(attention))
        if task in rows  # gates alone have no effects of items
    }
    chosen = example_method(list(shown))
    tables = {"same_answer": answers, "groups": group_effects, "described": described, "roles": roles}
    known = {name: pl.read_parquet(path) for name, path in tables.items() if path}
    if changes:
        known["changes"] = pl.read_parquet(changes).filter(
            pl.col("method") == chosen, pl.col("difference").is_not_null()
        )
    heads = Heads(shown, chosen, settings.examples, attended, known)
    with atomic_folder(data) as folder:
        write_script(folder, "atlas", overview(vars(settings), table, pl.read_parquet(capability), chosen))
        for method in settings.methods:
            write_script(folder, f"maps/{method}", method_map(table, method, settings.tasks))
        for task, prepared, trace in zip(settings.tasks, items, traces, strict=True):
            write_script(folder, f"items/{task}", shown_items(prepared, trace, rows.get(task, ()), attended.get(task)))
        for name, content in heads.each(*shape_of(table)):
            write_script(folder, f"heads/{name}", content)


if __name__ == "__main__":
    run(main)
