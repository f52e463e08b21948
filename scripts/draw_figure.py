"""Draw one figure as a Vega-Lite spec.

Reads `importance.parquet`, to mark the tasks that the model does not do `capability.parquet`, and to mark effects that
are rounding the record of engines; writes the spec as JSON. Settings: `figure` (heatmap-grid, signed-grid), `method`,
`model`, `tasks` (keys in the config's order), `figures` (the config section).
"""

from pathlib import Path

import polars as pl
from headatlas.charts import head_maps
from headatlas.jobs import cli
from headatlas.workflow.engine_record import noise_floors, read_records


def main(settings: dict, importance: Path, capability: Path, spec: Path, engines: list[Path] = ()) -> None:
    noise = noise_floors(read_records(engines))
    cli.write_json(spec, head_maps.draw(pl.read_parquet(importance), settings, pl.read_parquet(capability), noise))


if __name__ == "__main__":
    cli.run(main)
