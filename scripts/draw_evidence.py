"""Draw one figure of the evidence as a Vega-Lite spec.

Reads tables (Parquet), in the order that `headatlas.evidence_charts.FIGURES` gives for the figure; writes the
spec as JSON. Settings: `figure` (`knock-out`, or `dissociation.ablation` for a figure of one method), `model`
(`models` for a comparison), `tasks` and `methods` (in the config's order), `confidence` (that of the
tables), `figures` (the config section).
"""

from pathlib import Path

import polars as pl
from headatlas import evidence_charts, job


def main(settings: dict, tables: list[Path], spec: Path) -> None:
    read = [pl.read_parquet(table, glob=False) for table in tables]
    job.write_json(spec, evidence_charts.draw(read, settings))


if __name__ == "__main__":
    job.run(main)
