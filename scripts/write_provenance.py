"""Record what the results of one model were made from.

Reads the traces (for their devices) and the records of engines; writes JSON: config, SHA-256 of files,
code, packages, devices, engines.
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run, write_json
from headatlas.workflow.engine_record import read_records
from headatlas.workflow.provenance import describe_results


@dataclass(frozen=True)
class Settings:
    """name: of the model; files: SHA-256 by path; stored_as: number of the weights' tensors by format; code: by rule.

    stored_as is null for a hub model; code is a fingerprint.
    """

    name: str
    model: dict
    config: dict
    files: dict[str, str]
    stored_as: dict[str, int] | None
    code: dict[str, str]


def main(settings: Settings, traces: list[Path], provenance: Path, engines: list[Path] = ()) -> None:
    write_json(provenance, describe_results(vars(settings), traces, read_records(engines)))


if __name__ == "__main__":
    run(main)
