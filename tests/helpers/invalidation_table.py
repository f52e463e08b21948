"""The table of tests/invalidation.yaml: the jobs it expects, and how config/README.md shows it.

`PYTHONPATH=scripts python tests/helpers/invalidation_table.py` writes the README's part.
"""

from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
README = ROOT / "config/README.md"
BEGIN, END = "<!-- edits: begin -->\n", "<!-- edits: end -->\n"
TABLE = yaml.safe_load((ROOT / "tests/invalidation.yaml").read_text(encoding="utf-8"))
CASES = [(run, case) for run in TABLE["runs"] for case in TABLE[run]]


def expected(run: str, plan: list) -> dict[str, int]:
    """Jobs of each rule, from the names of sets and the single jobs of a plan."""
    total = Counter()
    for part in plan:
        if isinstance(part, list):
            total.update(expected(run, part))
        else:
            total.update(TABLE["runs"][run][part] if isinstance(part, str) else part)
    return dict(total)


def with_table(text: str) -> str:
    """The README's text with today's tables between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + "\n".join(map(_shown, TABLE["runs"])) + "\n" + END + rest.split(END)[1]


def _shown(run: str) -> str:
    sets = TABLE["runs"][run]
    lines = [TABLE["about"][run], "", *(f"- *{_words(name)}*: {_jobs(jobs)}" for name, jobs in sets.items())]
    lines += ["", "| edit | jobs of a rerun |", "| --- | --- |"]
    lines += [f"| {case['edit']} | {_plan(run, case['plan'])} |" for case in TABLE[run]]
    return "\n".join(lines) + "\n"


def _plan(run: str, plan: list) -> str:
    parts = _flat(plan)
    named, single = (
        [part for part in parts if isinstance(part, str)],
        [part for part in parts if isinstance(part, dict)],
    )
    missing = [name for name in TABLE["runs"][run] if name not in named and name != "library"]
    shown = [f"*{_words(name)}*" for name in named] if missing else ["*everything but the library*"]
    return ", ".join([*map(_jobs, single), *shown]) or "none"


def _flat(plan: list) -> list:
    return [inner for part in plan for inner in (_flat(part) if isinstance(part, list) else [part])]


def _jobs(jobs: dict[str, int]) -> str:
    return ", ".join(f"{rule} {count}" for rule, count in jobs.items())


def _words(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
