"""The findings of one model in sentences, each with its numbers, interval and test.

Reads the tables of summarise, the record of engines, and the tables of reliability, compare_maps, surface_control,
format_control and knock_out_summary where they were made; writes Markdown. Settings: confidence (that of the tables).
"""

import json
from pathlib import Path

import polars as pl
from headatlas.engine_record import slow_ways
from headatlas.findings import Tables, write_findings
from headatlas.job import atomic, run


def main(
    settings: dict,
    summary: Path,
    comparisons: Path,
    hottest: Path,
    profiles: Path,
    engines: Path,
    findings: Path,
    reliability: Path | None = None,
    agreement: Path | None = None,
    overlap: Path | None = None,
    surface: Path | None = None,
    formats: Path | None = None,
    area: Path | None = None,
    dissociation: Path | None = None,
    dominance: Path | None = None,
) -> None:
    paths = locals()
    tables = {name: pl.read_parquet(paths[name]) for name in Tables._fields if paths[name] is not None}
    slow = slow_ways(json.loads(engines.read_text(encoding="utf-8")))
    with atomic(findings) as draft:
        draft.write_text(write_findings(Tables(**tables), settings["confidence"], slow), encoding="utf-8")


if __name__ == "__main__":
    run(main)
