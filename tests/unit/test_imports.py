"""The house: which package may import which, and where torch, polars and Altair may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS, BENCHMARKS = ROOT / "scripts", ROOT / "tests/benchmarks"
LIBRARY = SCRIPTS / "headatlas"
# Each package, and those it may import from besides itself; all may import `errors`, `metric` and `wording`.
ARROWS = {
    "jobs": set(),
    "stats": set(),
    "english": set(),
    "tasks": {"jobs", "models"},
    "files": {"jobs", "stats"},
    "models": {"jobs"},
    "scoring": {"files", "jobs", "models", "stats"},
    "evidence": {"files", "jobs", "stats"},
    "charts": {"evidence", "stats"},
    "page": {"charts", "evidence", "files", "jobs", "tasks"},
    "config": {"models", "tasks"},
    "workflow": {"config", "jobs", "models", "tasks"},
    "demo": set(),
    "cost": {"config", "evidence", "models", "scoring", "tasks", "workflow"},
    "library": {"charts", "config", "evidence", "files", "jobs", "models", "scoring", "stats", "tasks", "workflow"},
}
# Each package that may import it.
ROOMS = {
    "torch": {"models", "scoring", "demo"},
    "transformers": {"models", "tasks", "demo"},
    "polars": {"evidence", "charts", "library", "page"},
    "scipy": {"stats"},
    "jinja2": {"evidence", "workflow"},
    "altair": {"charts", "library"},
    "vl_convert": {"charts"},
    "snakemake": set(),
}
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
            assert node.level == 0, f"{path}: a relative import, which fingerprints do not follow"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def library() -> dict[str, Path]:
    """Modules of the library by their full name."""
    files = [path for path in LIBRARY.rglob("*.py") if path.stem != "__init__"]
    return {".".join(path.relative_to(SCRIPTS).with_suffix("").parts): path for path in files}


def torch_side() -> list[str]:
    """Modules and scripts that import torch or transformers, themselves or through others; `library` has everything."""
    modules = {name: path for name, path in library().items() if path.parent.name != "library"}
    files = modules | {path.stem: path for path in SCRIPTS.glob("*.py")}
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
    scoring = {"ablation", "attribution", "knock_out", "probe", "trace"}
    models = {"batches", "device", "head_model", "replay"}
    assert {*(f"headatlas.scoring.{name}" for name in scoring), *(f"headatlas.models.{name}" for name in models)} <= {
        *modules
    }
    assert {"ablate_layers", "fit_probe", "integrate_task", "knock_out", "trace_task"} <= set(modules)
    work = "import bench; bench.pipeline_rows(bench.llama(1, 2, 32), 2, 10, 5, 2, (None, None))"
    done = run(modules, work)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split(maxsplit=1) == [str(len(modules)), "[]\n"]


def test_forked_jobs_and_figures_do_not_wait_for_scipy():
    """Its import takes longer than the rest of a score_layer job, and a model has hundreds of these."""
    modules = ["score_layer", "choose_heads", "draw_figure", "draw_evidence", "headatlas.evidence.importance"]
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import {', '.join(modules)}; print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.stdout == "False\n", done.stderr[-2000:]


def test_the_refusal_works():
    done = run(["headatlas.evidence.importance"])
    assert done.returncode == 1
    assert "No module named 'polars' (refused)" in done.stderr


@pytest.mark.parametrize("package", ARROWS)
def test_packages_import_in_one_direction(package):
    for path in (LIBRARY / package).glob("*.py"):
        reached = {name.split(".")[1] for name in imported(path) if name.startswith("headatlas.")}
        assert reached <= ARROWS[package] | {package, "errors", "metric", "wording"}, path


def test_the_arrows_make_no_circle_and_leave_out_no_package():
    assert set(ARROWS) == {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    left = dict(ARROWS)
    while grounded := [name for name, below in left.items() if not below & left.keys()]:
        for name in grounded:
            del left[name]
    assert not left


@pytest.mark.parametrize("foreign", ROOMS)
def test_each_large_package_stays_in_its_rooms(foreign):
    users = {
        name.split(".")[1] for name, path in library().items() if foreign in {n.split(".")[0] for n in imported(path)}
    }
    assert users <= ROOMS[foreign]


def test_packages_own_files_hold_a_docstring_only():
    """A fingerprint follows imports of modules, so code in a package's __init__ would escape it."""
    for path in LIBRARY.glob("*/**/__init__.py"):
        (only,) = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(only, ast.Expr), path


def test_importing_headatlas_imports_nothing_of_it_and_no_rule_needs_what_it_defines():
    program = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); before = {{*sys.modules}}; import headatlas"
    program += "; new = {name.split('.')[0] for name in {*sys.modules} - before}; print(new - sys.stdlib_module_names)"
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert done.stdout == "{'headatlas'}\n"
    users = {name for name, path in library().items() if "headatlas" in imported(path)}
    users |= {path.stem for path in SCRIPTS.glob("*.py") if "headatlas" in imported(path)}
    assert not users


def test_the_page_of_the_house_shows_the_arrows():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", page, re.MULTILINE)
    assert {package: set(re.findall(r"`(\w+)`", others)) for package, others in rows} == ARROWS
