"""The short suite (`pytest -m canary`) in a fresh environment on versions other than the locked ones.

    python .ci/canary.py floors    the lowest versions that pyproject.toml allows: what fails here fails CI
    python .ci/canary.py newest    the newest on PyPI, ignoring our ceilings: what fails here fails CI only if
                                   all versions lie within our ranges; otherwise CI prints a table of what to fix

Needs a Python with `packaging`; creates the environment in `.canary/`.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from packaging.requirements import Requirement
from versions import ROOT, bound, declared, floors, newest

FOLDER = ROOT / ".canary"
TOOLS = ("pytest", "hypothesis", "packaging")
SHOWN = ("snakemake", "torch", "transformers", "accelerate", "polars", "numpy", "altair", "vl-convert-python")


def main(kind: str) -> None:
    """Make the environment, run the suite, judge."""
    wanted = declared("gguf")  # modules of tests import it
    tools = {name: requirement for name, requirement in declared("test").items() if name in TOOLS}
    start = time.monotonic()
    python = environment(FOLDER / kind, {"floors": floors, "newest": newest}[kind](wanted | tools))
    if python is None:
        sys.exit(f"{kind}: pip finds no such environment (above)")
    versions = installed(python)
    ready = time.monotonic()
    measured, failed = suite(python, FOLDER / f"{kind}.xml")
    print(f"{kind}: environment {ready - start:.0f} s, suite {time.monotonic() - ready:.0f} s")
    print("  " + ", ".join(f"{name} {versions[name]}" for name in SHOWN))
    for line in (*measured, *failed):
        print(f"  {line}")
    status, table = verdict(wanted, versions, failed)
    print("".join(f"{row}\n" for row in table), end="", flush=True)
    sys.exit(f"{kind}: fails within the declared ranges" if status else 0)


def verdict(wanted: dict[str, Requirement], versions: dict[str, str], failed: list[str]) -> tuple[int, list[str]]:
    """The exit status, and a table of what lies beyond the declared ranges and what broke."""
    beyond = {name: each for name, each in wanted.items() if not each.specifier.contains(versions[name])}
    if not beyond:
        return int(bool(failed)), []
    broke = "; ".join(each.partition(":")[0] for each in failed) or "nothing: raise the ceiling and renew the lock"
    rows = [f"| {name} | {versions[name]} | {bound(each, '<')} | {broke} |" for name, each in beyond.items()]
    return 0, ["| package | version | ceiling | what broke |", "| --- | --- | --- | --- |", *rows]


def environment(folder: Path, requirements: list[str]) -> Path | None:
    """A fresh environment's Python; None if pip cannot install these versions together."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", *requirements]
    return python if subprocess.run(install, check=False).returncode == 0 else None


LIST = """
import json
from importlib.metadata import distributions
print(json.dumps({each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions()}))
"""


def installed(python: Path) -> dict[str, str]:
    """Version of each package of an environment; not by `pip list`, which prints nothing if pip is quiet."""
    return json.loads(subprocess.run([python, "-c", LIST], stdout=subprocess.PIPE, check=True).stdout)


def suite(python: Path, report: Path) -> tuple[list[str], list[str]]:
    """Run the suite; lines of what it measured, and of what failed."""
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-m", "canary", "-q", "--tb=short", f"--junitxml={report}"]
    command += ["-o", "junit_family=xunit1"]  # the other kind holds no properties
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if not report.exists():
        return [], ["the suite: did not start"]
    cases = list(ElementTree.parse(report).iter("testcase"))
    measured = [f"{each.get('name')}: {each.get('value')}" for case in cases for each in case.iter("property")]
    failures = ((case, each) for case in cases for kind in ("failure", "error") for each in case.iter(kind))
    failed = [f"{case.get('name')}: {first_line(each.get('message'))}" for case, each in failures]
    return measured, failed or ([f"the suite: pytest ended with status {status}"] if status else [])


def first_line(text: str | None) -> str:
    """First line of a failure."""
    return (text or "").split("\n")[0]


if __name__ == "__main__":
    if sys.argv[1:] not in (["floors"], ["newest"]):
        sys.exit(__doc__)
    main(sys.argv[1])
