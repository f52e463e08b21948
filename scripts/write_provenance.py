"""What the results of one model were made from.

Reads the traces (for the devices they were made on) and the record of engines; writes JSON: config, SHA-256 of files,
code, packages, devices, engines.
Settings: name, model, config, files (SHA-256 by path), code (fingerprint by rule).
"""

import json
from pathlib import Path

from headatlas.job import run, write_json
from headatlas.provenance import describe_results


def main(settings: dict, traces: list[Path], engines: Path, provenance: Path) -> None:
    write_json(provenance, describe_results(settings, traces, json.loads(engines.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    run(main)
