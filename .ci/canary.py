"""The short suite (`pytest -m canary`) in a fresh environment on versions other than the locked ones.

    python .ci/canary.py floors    the lowest versions that pyproject.toml allows: what fails here fails CI
    python .ci/canary.py newest    what the registry serves, our ceilings ignored: what fails here fails CI only where
                                   all versions lie within our ranges; else it is a table of what to mend

Run by a Python that has `packaging`; the environment is made in `.canary/`.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from versions import ROOT, bound, declared, floors, newest

FOLDER = ROOT / ".canary"
TOOLS = ("pytest", "hypothesis", "packaging")
SHOWN = ("snakemake", "torch", "transformers", "accelerate", "polars", "numpy", "altair", "vl-convert-python")


def main(kind: str) -> None:
    """Make the environment, run the suite, judge."""
    wanted = declared()
    tools = {name: requirement for name, requirement in declared("test").items() if name in TOOLS}
    start = time.monotonic()
    python = environment(FOLDER / kind, {"floors": floors, "newest": newest}[kind](wanted | tools))
    if python is None:
        sys.exit(f"{kind}: pip finds no such environment (above)")
    versions = installed(python)
    ready = time.monotonic()
    passed, report = suite(python, FOLDER / f"{kind}.xml")
    print(f"{kind}: environment {ready - start:.0f} s, suite {time.monotonic() - ready:.0f} s")
    print("  " + ", ".join(f"{name} {versions[name]}" for name in SHOWN))
    print("".join(f"  {line}\n" for line in report), end="", flush=True)
    beyond = [name for name, requirement in wanted.items() if not requirement.specifier.contains(versions[name])]
    if not passed and not beyond:
        sys.exit(f"{kind}: fails within the declared ranges")
    for name in beyond:
        broke = "the suite (above)" if not passed else "nothing: raise the ceiling, renew the lock"
        print(f"  | {name} | {versions[name]} | ceiling {bound(wanted[name], '<')} | broke: {broke} |")


def environment(folder: Path, requirements: list[str]) -> Path | None:
    """A fresh environment's Python; None where pip cannot have these versions together."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", *requirements]
    return python if subprocess.run(install, check=False).returncode == 0 else None


def installed(python: Path) -> dict[str, str]:
    """Version of each package of an environment."""
    said = subprocess.run([python, "-m", "pip", "list", "--format=json"], stdout=subprocess.PIPE, check=True).stdout
    return {package["name"].lower().replace("_", "-"): package["version"] for package in json.loads(said)}


def suite(python: Path, report: Path) -> tuple[bool, list[str]]:
    """Whether the suite passed; and in lines what it measured and what failed."""
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-m", "canary", "-q", "--tb=short", f"--junitxml={report}"]
    command += ["-o", "junit_family=xunit1"]  # the other kind holds no properties
    passed = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    if not report.exists():
        return False, ["the suite did not start"]
    lines = []
    for case in ElementTree.parse(report).iter("testcase"):
        lines += [f"{each.get('name')}: {each.get('value')}" for each in case.iter("property")]
        for kind in ("failure", "error"):
            lines += [
                f"{case.get('name')}: {(each.get('message') or '').split(chr(10))[0]}" for each in case.iter(kind)
            ]
    return passed, lines


def first_line(text: str | None) -> str:
    """What a failure says, in short."""
    return (text or "").split("\n")[0]


if __name__ == "__main__":
    if sys.argv[1:] not in (["floors"], ["newest"]):
        sys.exit(__doc__)
    main(sys.argv[1])
