"""Ranges, lock, conda environment and README agree; what is imported is declared."""

import ast
import sys
from importlib.metadata import packages_distributions

import canary
import pytest
import versions
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from versions import ROOT, bound, declared, floors, locked, name_of, newest

RENEW = "run `python .ci/versions.py lock` or mend pyproject.toml"
ALL = declared("test", "slurm")
FREE = {"torch"}  # the user's choice of build


def test_the_lock_is_within_the_declared_ranges():
    pins = locked()
    assert sorted(ALL.keys() - pins.keys() - FREE) == [], RENEW
    outside = [(name, pins[name]) for name in ALL.keys() - FREE if pins[name] not in ALL[name].specifier]
    assert outside == [], RENEW


def test_the_lock_leaves_the_build_of_torch_to_the_user():
    assert [name for name in locked() if name.startswith(versions.NOT_LOCKED)] == []


@pytest.mark.parametrize("name", sorted(declared("slurm").keys() - FREE))
def test_the_ceiling_is_the_minor_after_the_locked_one(name):
    major, minor, *_ = Version(locked()[name]).release
    assert Version(bound(ALL[name], "<")) == Version(f"{major}.{minor + 1}"), RENEW


def test_a_lock_that_disagrees_is_noticed(monkeypatch, tmp_path):
    text = versions.LOCK.read_text(encoding="utf-8")
    monkeypatch.setattr(versions, "LOCK", tmp_path / "constraints.txt")
    for old, new in ((f"polars=={locked_in(text, 'polars')}", "polars==1.9.0"), ("tqdm==", "tqdn==")):
        versions.LOCK.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(AssertionError, match=r"versions\.py lock"):
            test_the_lock_is_within_the_declared_ranges()


def locked_in(text: str, name: str) -> str:
    return next(line.partition("==")[2] for line in text.splitlines() if line.startswith(f"{name}=="))


def test_floors_and_newest_of_a_range():
    ranges = {name: Requirement(f"{name}>=1.2,<3") for name in ("torch", "numpy")}
    assert floors(ranges) == ["torch==1.2", "numpy==1.2"]
    assert newest(ranges) == ["torch<3,>=1.2", "numpy>=1.2"]


def test_the_canary_fails_within_the_ranges_and_tells_beyond_them():
    wanted = {name: Requirement(f"{name}>=1,<2.1") for name in ("numpy", "polars")}
    inside, beyond = {"numpy": "2.0.1", "polars": "1.0"}, {"numpy": "2.1.0", "polars": "1.0"}
    assert canary.verdict(wanted, inside, []) == (0, [])
    assert canary.verdict(wanted, inside, ["test_x: no"]) == (1, [])
    status, table = canary.verdict(wanted, beyond, ["test_x: no", "test_y[a]: neither"])
    assert (status, table[2:]) == (0, ["| numpy | 2.1.0 | 2.1 | test_x; test_y[a] |"])
    assert "raise the ceiling" in canary.verdict(wanted, beyond, [])[1][2]


def test_both_commands_of_the_readme_use_the_lock():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for mark in ("<!-- run command -->", "<!-- test command -->"):
        fence, command, end = lines[lines.index(mark) + 1 :][:3]
        assert (fence, end) == ("```", "```")
        assert f"pip install -c {versions.LOCK.relative_to(ROOT)} -e " in command


def test_the_conda_environment_has_the_same_ranges():
    """But Snakemake, which does not run inside it."""
    environment = yaml.safe_load((ROOT / "workflow/envs/headatlas.yaml").read_text(encoding="utf-8"))
    (packages,) = (each["pip"] for each in environment["dependencies"] if isinstance(each, dict))
    there = {name_of(each.name): each.specifier for each in map(Requirement, packages)}
    assert there == {name: each.specifier for name, each in declared().items() if name != "snakemake"}


def test_what_is_imported_is_declared():
    files = [*(ROOT / "scripts").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk"), ROOT / "Snakefile"]
    ours = {path.stem for path in (ROOT / "scripts").glob("*.py")} | {"headatlas"} | sys.stdlib_module_names
    imported = {name for path in files for name in imports(path)} - ours
    known = packages_distributions()
    assert {"yaml", "tqdm", "torch", "snakemake"} <= imported
    undeclared = {name for name in imported if not {name_of(each) for each in known.get(name, [name])} & ALL.keys()}
    assert undeclared == set()


def imports(path) -> set[str]:
    """Top-level names of the packages that a file of Python or Snakemake imports."""
    lines = path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".py":
        nodes = list(ast.walk(ast.parse("\n".join(lines))))
    else:
        starts = [line for line in lines if line.startswith(("import ", "from "))]
        nodes = [node for line in starts for node in ast.walk(ast.parse(line))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}
