"""What runs the model needs torch and transformers alone: it imports where Snakemake, polars and charts are missing."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS, BENCHMARKS = ROOT / "scripts", ROOT / "tests/benchmarks"
ABSENT = ("snakemake", "polars", "pyarrow", "pandas", "altair", "vl_convert", "jsonschema")
# An import of a refused package fails as if it were not installed, while libraries that only ask whether it is
# there (importlib.util.find_spec) are told that it is not.
PROGRAM = """
import importlib, importlib.abc, importlib.util, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (refused)", name=name)

ask = importlib.util.find_spec

def find_spec(name, package=None):
    return None if name.partition(".")[0] in {absent!r} else ask(name, package)

importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Refuse())
sys.path[:0] = {folders!r}
for name in {modules!r}:
    importlib.import_module(name)
{more}
print(len({modules!r}), sorted(set({absent!r}) & set(sys.modules)))
"""


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def torch_side() -> list[str]:
    """Modules and scripts that import torch or transformers, themselves or through others."""
    files = {f"headatlas.{path.stem}": path for path in (SCRIPTS / "headatlas").glob("*.py")}
    files |= {path.stem: path for path in SCRIPTS.glob("*.py")}
    needs = {name: imported(path) for name, path in files.items()}
    side = {"torch", "transformers"}
    while grown := {name for name, wanted in needs.items() if wanted & side} - side:
        side |= grown
    return sorted(side & set(files))


def run(modules: list[str], more: str = "") -> subprocess.CompletedProcess:
    """Import the modules, then run some more code, in a process that is refused the absent packages."""
    folders = [str(SCRIPTS), str(BENCHMARKS)]
    code = PROGRAM.format(absent=ABSENT, folders=folders, modules=modules, more=more)
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)


def test_torch_side_imports_and_works_without_the_workflow_and_the_tables():
    modules = torch_side()
    library = {"ablation", "attribution", "batches", "device", "knock_out", "model", "probe", "replay", "trace"}
    assert {f"headatlas.{name}" for name in library} <= set(modules)
    assert {"ablate_layers", "fit_probe", "integrate_task", "knock_out", "trace_task"} <= set(modules)
    work = "import bench; bench.pipeline_rows(bench.llama(1, 2, 32), 2, 10, 5, 2, (None, None))"
    done = run(modules, work)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split(maxsplit=1) == [str(len(modules)), "[]\n"]


def test_the_refusal_works():
    done = run(["headatlas.tables"])
    assert done.returncode == 1
    assert "No module named 'polars' (refused)" in done.stderr
