"""How long the workflow takes when there is little to do: a rerun, a new colour, the plan for a large model.

python tests/benchmarks/reruns.py [REPEATS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/helpers")]

from workflow_runs import FIGURES, REDUCED, copy_repository, finish, large_plan, planned, write_config  # noqa: E402


def main(repeats: int) -> None:
    """Print the median time of each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_repository(Path(temporary) / "run", REDUCED)
        finish(folder)
        show("a rerun with nothing to do", repeats, lambda: finish(folder))
        schemes = cycle(("magma", "cividis"))

        def colour() -> None:
            write_config(folder, REDUCED | {"figures": {"scheme": next(schemes)}})
            assert planned(finish(folder, *FIGURES)) == {"draw_figure": 1, "render_figure": 1}

        show("a new colour, to the figures of one method", repeats, colour)
        large = large_plan(Path(temporary) / "large")
        show("the plan for a model of 32 layers", repeats, lambda: finish(large, "--dry-run"))


def show(name: str, repeats: int, action: Callable[[], object]) -> None:
    """Run an action some times and print the median."""
    taken = []
    for _ in range(repeats):
        start = time.monotonic()
        action()
        taken.append(time.monotonic() - start)
    print(f"{name}: {statistics.median(taken):.1f} s, the median of {repeats}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5)
