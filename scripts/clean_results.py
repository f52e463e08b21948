"""Remove what earlier states of the configs left in results/: figures, tables and findings that no config makes now.

    python scripts/clean_results.py [--reusable] [--yes] [--results FOLDER]

Lists the files and asks first. Removes only files that a Snakemake run made (results/*/manifest.json); your own files
stay. --reusable also removes intermediate files (items, traces, effects, scores, logs) of tasks, methods and models
that are no longer in the config; if kept, they save computation when these come back.
"""

import argparse
import sys
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.workflow.manifest import left_over, remove
from headatlas.workflow.recovery import hold, lock_file


def main(results: Path, reusable: bool, yes: bool) -> None:
    if lock_file(results).parent.is_dir() and not hold(lock_file(results)):
        raise HeadAtlasError(f"{results}: a run is active there; wait for it to end")
    outdated, again = left_over(results)
    chosen = outdated + (again if reusable else [])
    for file in chosen:
        print(file)
    if again and not reusable:
        print(f"({len(again)} intermediate files and logs are kept for reuse; --reusable removes them too)")
    if not chosen:
        print(f"{results}: nothing to remove")
    elif yes or _agreed(len(chosen)):
        remove(results, chosen)
        print(f"{len(chosen)} files removed")
    else:
        print("Nothing was removed.")


def _agreed(n: int) -> bool:
    try:
        return input(f"Remove these {n} files? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise HeadAtlasError("no answer; give --yes to remove without asking") from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reusable", action="store_true", help="also intermediate files")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the folder of results")
    try:
        main(**vars(parser.parse_args()))
    except HeadAtlasError as error:
        sys.exit(f"error: {error}")
