"""Draw one figure as a Vega-Lite spec.

Reads `importance.parquet` and, to mark the tasks that the model does not do, `capability.parquet`; writes the spec as
JSON. Settings: `figure` (heatmap-grid, signed-grid), `method`,
`model`, `tasks` (keys in the config's order), `figures` (the config section).
"""

from pathlib import Path

import polars as pl
from headatlas import charts, job


def main(settings: dict, importance: Path, capability: Path, spec: Path) -> None:
    job.write_json(spec, charts.draw(pl.read_parquet(importance), settings, pl.read_parquet(capability)))


if __name__ == "__main__":
    job.run(main)
