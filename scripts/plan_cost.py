"""What a run will cost, before anything runs: jobs, loads, passes, memory, minutes and disk for each rule of a config.

    python scripts/plan_cost.py --configfile my.yaml [--cores N] [--slurm] [--flops 2e12]

Reads the config, the task files and the tokenizers; runs no job and downloads nothing. Minutes need the speed of the
machine: on a CPU a probe of two seconds measures it, for a GPU it is assumed; --flops sets it. The plan says which.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported

from headatlas.cost.run import plans
from headatlas.cost.text import described
from headatlas.errors import HeadAtlasError


def main(configfile: Path, cores: int, slurm: bool, flops: float | None) -> None:
    for plan in plans(configfile, Path(__file__).resolve().parents[1], not slurm, cores, flops):
        print(described(plan), end="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=Path("config/config.yaml"), help="the config")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="that the run may use; all by default")
    parser.add_argument("--slurm", action="store_true", help="jobs that run the model are submitted, each with a GPU")
    parser.add_argument("--flops", type=float, help="floating-point operations per second of one job")
    try:
        main(**vars(parser.parse_args()))
    except HeadAtlasError as error:
        sys.exit(f"error: {error}")
