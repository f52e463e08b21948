"""The rules of the demo as a graph in workflow/documentation.md, from Snakemake's rule graph.

`python tests/helpers/rule_graph.py` draws it again.
"""

import re
import subprocess
from pathlib import Path

from workflow_runs import SNAKEMAKE, environment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "workflow/documentation.md"
BEGIN, END = "<!-- rules: begin -->\n", "<!-- rules: end -->\n"


def with_graph(text: str) -> str:
    """The page's text with today's graph between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "```mermaid\n" + drawn(arrows()) + "```\n" + END + rest.split(END)[1]


def arrows() -> set[tuple[str, str]]:
    """(rule, rule that reads what it makes) of the demo; without `all`, which reads of nearly every rule."""
    command = [*SNAKEMAKE, "--cores", "1", "--rulegraph", "mermaid-js"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), text=True, capture_output=True, check=True)
    names = dict(re.findall(r"^\t(id\d+)\[(\w+)\]$", done.stdout, re.MULTILINE))
    found = re.findall(r"^\t(id\d+) --> (id\d+)$", done.stdout, re.MULTILINE)
    return {(names[a], names[b]) for a, b in found if names[b] != "all"}


def drawn(found: set[tuple[str, str]]) -> str:
    """Arrows as a Mermaid flowchart, without those that a longer way implies."""
    direct = {(a, b) for a, b in found if not any(b in _after(c, found) for x, c in found if x == a and c != b)}
    return "flowchart TB\n" + "".join(f"    {a} --> {b}\n" for a, b in sorted(direct))


def _after(rule: str, found: set[tuple[str, str]]) -> set[str]:
    """Every rule that comes after one, by way of others too."""
    next_ones = {b for a, b in found if a == rule}
    return next_ones.union(*(_after(b, found) for b in next_ones))


if __name__ == "__main__":
    PAGE.write_text(with_graph(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
