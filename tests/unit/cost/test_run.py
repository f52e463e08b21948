"""scripts/plan_cost.py from its command line: what it reads, prints and refuses."""

import os
import subprocess
import sys

import pytest
import yaml
from workflow_runs import REDUCED, ROOT, environment

SCRIPTS = ROOT / "scripts"
CODE = f"""
import runpy, sys
sys.path.insert(0, {str(SCRIPTS)!r})
runpy.run_path({str(SCRIPTS / "plan_cost.py")!r}, run_name="__main__")
print([name for name in ("torch", "transformers", "polars", "snakemake") if name in sys.modules])
"""


@pytest.fixture
def run_plan(tmp_path):
    """Runs the script in the repository, and prints which of the large libraries it has imported."""

    def run(*options: str) -> subprocess.CompletedProcess:
        env = environment() | {"HF_HOME": str(tmp_path / "hub")}
        command = [sys.executable, "-c", CODE, *map(str, options)]
        return subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=False)

    return run


def test_the_demo_is_planned_without_torch(run_plan):
    """1,232 items to score on, 48 heads; 1,760 items in all."""
    before = sorted(os.listdir(ROOT))
    done = run_plan("--cores", 2, "--flops", "1e10")
    assert done.returncode == 0, done.stderr
    first, speed, _, _, *rows, libraries = done.stdout.splitlines()
    assert first.startswith("demo: 6 layers of 8 heads on the CPU; 1,760 items of 8 tasks, ")
    assert speed == "speed: 1e+10 FLOP/s by --flops"
    cells = {row.split()[0]: row.split()[1:] for row in rows if row}
    assert cells["trace_task"][:3] == ["8", "1", "1,760"]
    assert cells["ablate_layers"][:2] == ["8", "59,136"]
    assert cells["score_layer"][0] == "144"
    assert libraries == "[]"
    assert sorted(os.listdir(ROOT)) == before


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            {"path": "nobody/nothing", "revision": "v1"},
            "error: nobody/nothing: is not in the cache of the Hugging Face hub, and a plan downloads nothing; get its "
            "small files first: hf download nobody/nothing --revision v1 --include '*.json' '*.model' '*.txt'\n",
        ),
        ({"path": "./nothing"}, "error: ./nothing: there is no such model folder"),
        ({"path": "x", "dtype": "int8"}, "error: models.demo.dtype: must be "),
    ],
)
def test_mistakes_are_one_line(run_plan, tmp_path, model, said):
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(REDUCED | {"models": {"demo": model}}))
    done = run_plan("--configfile", tmp_path / "my.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
