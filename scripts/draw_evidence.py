"""Draw one figure of the evidence as a Vega-Lite spec.

Reads tables (Parquet), in the order that `headatlas.charts.registry.FIGURES` gives for the figure; writes the
spec as JSON. Settings: `figure` (`knock-out`, or `dissociation.ablation` for a figure of one method), `model`
(`models` for a comparison), `tasks` and `methods` (in the config's order), `confidence` (that of the
tables), `figures` (the config section).
"""

from pathlib import Path

import polars as pl
from headatlas.charts import registry
from headatlas.jobs import cli


def main(settings: dict, tables: list[Path], spec: Path) -> None:
    read = [pl.read_parquet(table, glob=False) for table in tables]
    cli.write_json(spec, registry.draw(read, settings))


if __name__ == "__main__":
    cli.run(main)
