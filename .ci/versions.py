"""The versions that this project is tested with: pyproject.toml has the ranges, workflow/envs/constraints.txt the lock.

    python .ci/versions.py lock      renews the lock with what pip installs today within the ranges

Needs `packaging` and pip of the environment it runs in.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as name_of

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "workflow/envs/constraints.txt"
# The user's choice (a build for the CPU or for one of several CUDAs), and what comes with it.
NOT_LOCKED = ("torch", "triton", "nvidia-", "cuda-")
HEADER = """\
# The versions that passed the tests: `pip install -c workflow/envs/constraints.txt ...`. torch is not among them:
# you choose its build. `python .ci/versions.py lock` renews this file (CONTRIBUTING.md).
"""


def declared(*extras: str) -> dict[str, Requirement]:
    """The packages of pyproject.toml, and those of some extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {name_of(requirement.name): requirement for requirement in map(Requirement, lines)}


def locked() -> dict[str, str]:
    """Version of each package of the lock."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name_of(name): version for name, version in pins}


def bound(requirement: Requirement, operator: str) -> str:
    """The version after `>=` (the floor) or `<` (the ceiling)."""
    return next(part.version for part in requirement.specifier if part.operator == operator)


def floors(requirements: dict[str, Requirement]) -> list[str]:
    """Each package at the lowest version that is declared."""
    return [f"{name}=={bound(requirement, '>=')}" for name, requirement in requirements.items()]


def newest(requirements: dict[str, Requirement]) -> list[str]:
    """Each package without its ceiling; torch keeps its own, or pip would download gigabytes of CUDA."""
    return [
        str(requirement) if name == "torch" else f"{name}>={bound(requirement, '>=')}"
        for name, requirement in requirements.items()
    ]


def lock() -> None:
    """Record what pip would install for the tests in an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run([*command, f"{ROOT}[test]"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {name_of(each["metadata"]["name"]): each["metadata"]["version"] for each in json.loads(report)["install"]}
    pins = sorted((name, version) for name, version in found.items() if not name.startswith((*NOT_LOCKED, "headatlas")))
    LOCK.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in pins), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["lock"]:
        sys.exit(__doc__)
    lock()
