"""Draw one figure as a Vega-Lite spec.

Reads `importance.parquet`, `capability.parquet` (to cross out tasks that the model cannot do) and the record of engines
(to mark effects within rounding error); writes the spec as JSON.
"""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from headatlas.charts import head_maps
from headatlas.jobs import cli
from headatlas.metric import OTHER_UNITS
from headatlas.workflow.engine_record import noise_floors, read_records


@dataclass(frozen=True)
class Settings:
    """figure: heatmap-grid | signed-grid; tasks in the config's order; figures: the complete config section."""

    figure: str
    method: str
    model: str
    tasks: list[str]
    metric: str
    figures: dict


def main(settings: Settings, importance: Path, capability: Path, spec: Path, engines: list[Path] = ()) -> None:
    table, done = pl.read_parquet(importance), pl.read_parquet(capability)
    # The noise is one of scores, which effects in other units have no part in.
    noise = None if settings.method in OTHER_UNITS else noise_floors(read_records(engines))
    cli.write_json(spec, head_maps.draw(table, vars(settings), done, noise))


if __name__ == "__main__":
    cli.run(main)
