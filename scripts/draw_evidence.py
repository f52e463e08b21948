"""Draw one evidence figure as a Vega-Lite spec.

Reads tables (Parquet), in the order that `headatlas.charts.registry.FIGURES` gives for the figure; writes the
spec as JSON.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.charts import registry
from headatlas.jobs import cli


@dataclass(frozen=True)
class Settings:
    """figure: `knock-out`, or `dissociation.ablation` for a figure of one method; figures: the complete config section.

    Tasks and methods in the config's order; confidence: that of the tables; a comparison has models instead of model.
    """

    figure: str
    methods: list[str]
    tasks: list[str]
    confidence: float
    metric: str
    figures: dict
    model: str | None = None
    models: list[str] | None = None


def main(settings: Settings, tables: list[Path], spec: Path) -> None:
    read = [pl.read_parquet(table, glob=False) for table in tables]
    cli.write_json(spec, registry.draw(read, vars(settings)))


if __name__ == "__main__":
    cli.run(main)
