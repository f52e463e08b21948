"""What a result depends on besides its inputs: a fingerprint of the code that makes it.

Snakemake sees a changed script only by its time and never sees the modules it imports; a fingerprint among a
rule's params says exactly which rules an edit of the code concerns. Standard library only.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
PACKAGE = "headatlas"


def fingerprint(script: str) -> str:
    """Hash of the syntax trees of a script in `scripts/` and of all project modules it imports, transitively.

    Comments, docstrings and layout do not count; neither does anything outside the project.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(SCRIPTS / script)):
        digest.update(f"{path.relative_to(SCRIPTS)}\n{_code(path)}\n".encode())
    return digest.hexdigest()[:16]


def modules_of(script: str) -> set[str]:
    """Names of the project modules that a script in `scripts/` imports, transitively."""
    return {path.stem for path in _reached(SCRIPTS / script) if path.parent.name == PACKAGE}


def _reached(script: Path) -> set[Path]:
    reached, waiting = set(), [script]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imports(path)
    return reached


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    """Project modules imported anywhere in a file, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = (SCRIPTS / f"{name.replace('.', '/')}.py" for name in names if name.split(".")[0] == PACKAGE)
    return tuple(file for file in files if file.is_file())


@cache
def _code(path: Path) -> str:
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = node.body[1:]
    return ast.dump(tree)
