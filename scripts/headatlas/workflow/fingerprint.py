"""Fingerprints of code: which rules depend on a script, or on a module that it imports.

Snakemake compares a script only by its timestamp and ignores the modules it imports. A fingerprint among a rule's
params changes exactly when the code behind the rule's outputs does. Standard library only.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
PACKAGE = "headatlas"


def fingerprint(script: str) -> str:
    """Hash of the syntax trees of a script in `scripts/` and of all project modules it imports, transitively.

    Comments, docstrings and layout do not count; neither does anything outside the project.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(SCRIPTS / script)):
        digest.update(f"{path.relative_to(SCRIPTS)}\n{_code(_text(path))}\n".encode())
    return digest.hexdigest()[:16]


def fingerprints(rules: Iterable[str]) -> dict[str, str]:
    """The fingerprint of each rule that has a script of the same name."""
    return {rule: fingerprint(f"{rule}.py") for rule in rules if (SCRIPTS / f"{rule}.py").is_file()}


def _reached(script: Path) -> set[Path]:
    reached, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            files = (SCRIPTS / f"{name.replace('.', '/')}.py" for name in _imports(_text(path)))
            waiting += [file for file in files if file.is_file()]
    return reached


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _imports(text: str) -> frozenset[str]:
    """Candidates for project modules imported anywhere in a source text, including inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)


@cache
def _code(text: str) -> str:
    """The syntax tree of a source text without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = node.body[1:]
    return ast.dump(tree)
