"""Write the findings of one model in sentences with numbers, intervals and tests.

Reads a template with the sentences, the tables of measure_capability and summarise, the records of engines, and the
tables of reliability, compare_maps, surface_control, format_control, answer_control, compare_heads, knock_out_summary
and sufficiency_summary where they exist; writes Markdown, and the same text as a page (HTML).
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.charts.labels import task_label
from headatlas.evidence.findings import Tables, write_findings
from headatlas.evidence.html import page as html_page
from headatlas.jobs.cli import atomic, run
from headatlas.workflow.engine_record import read_records, rounding, slow_ways


@dataclass(frozen=True)
class Settings:
    """confidence: that of the tables; tasks in the order of the figures; labels: their names in the figures."""

    confidence: float
    tasks: list[str]
    labels: dict[str, str] | None


def main(
    settings: Settings,
    template: Path,
    capability: Path,
    summary: Path,
    comparisons: Path,
    hottest: Path,
    profiles: Path,
    findings: Path,
    page: Path,
    engines: list[Path] = (),
    reliability: Path | None = None,
    agreement: Path | None = None,
    overlap: Path | None = None,
    surface: Path | None = None,
    formats: Path | None = None,
    answers: Path | None = None,
    groups: Path | None = None,
    changes: Path | None = None,
    area: Path | None = None,
    dissociation: Path | None = None,
    dominance: Path | None = None,
    cpr: Path | None = None,
    tests: Path | None = None,
) -> None:
    paths = locals()
    tables = {name: pl.read_parquet(paths[name]) for name in Tables._fields if paths[name] is not None}
    names = {task: task_label(task, settings.labels) for task in settings.tasks}
    record = read_records(engines)
    text = write_findings(Tables(**tables), settings.confidence, names, template, slow_ways(record), rounding(record))
    for path, content in ((findings, text), (page, html_page(text, text.splitlines()[0].lstrip("# ")))):
        with atomic(path) as draft:
            draft.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    run(main)
