"""What a result depends on besides its inputs: a fingerprint of the code that makes it, and all that went into it.

Snakemake sees a changed script only by its time and never sees the modules it imports; a fingerprint among a
rule's params says exactly which rules an edit of the code concerns. Standard library only.
"""

import ast
import hashlib
import json
import os
import platform
import struct
import subprocess
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2]
PACKAGE = "headatlas"
PACKAGES = (
    "snakemake", "torch", "transformers", "tokenizers", "accelerate", "safetensors", "numpy", "scipy", "polars",
    "pyarrow", "altair", "vl-convert-python",
)  # fmt: skip


def fingerprint(script: str) -> str:
    """Hash of the syntax trees of a script in `scripts/` and of all project modules it imports, transitively.

    Comments, docstrings and layout do not count; neither does anything outside the project.
    """
    digest = hashlib.sha256()
    for path in sorted(_reached(SCRIPTS / script)):
        digest.update(f"{path.relative_to(SCRIPTS)}\n{_code(_text(path))}\n".encode())
    return digest.hexdigest()[:16]


def fingerprints(rules: Iterable[str]) -> dict[str, str]:
    """The fingerprint of each rule that has a script of its name."""
    return {rule: fingerprint(f"{rule}.py") for rule in rules if (SCRIPTS / f"{rule}.py").is_file()}


def describe_results(settings: dict, traces: list[Path], engines: list[dict]) -> dict:
    """Everything that a model's results were made from, as far as it can change a number.

    Versions and the git revision are those at the time the file is written, which is when results are made.

    Args:
        settings: of the rule `write_provenance`; traces: trace files, whose headers name the device;
            engines: rows of `engine_record.gather_engines`.
    """
    model, config = settings["model"], settings["config"]
    return {
        "name": settings["name"],
        "model": model | {"commit": _hub_commit(model)},
        "config": config,
        "seed": config["seed"],
        "dtype": model["dtype"],
        "devices": sorted({device for trace in traces if (device := header(trace).get("device"))}),
        "engines": engines,
        "files": settings["files"],
        "code": {"version": _version(PACKAGE), "revision": _revision(), "fingerprints": settings["code"]},
        "packages": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "machine": platform.machine(),
    }


def header(file: Path) -> dict[str, str]:
    """Metadata of a safetensors file: 8 bytes of length, then JSON."""
    with open(file, "rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        return json.loads(opened.read(length)).get("__metadata__", {})


def _hub_commit(model: dict) -> str | None:
    """The commit of a hub model: its files lie in a folder of that name; None for a local folder."""
    if os.path.isdir(model["path"]):
        return None
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(model["path"], "config.json", revision=model["revision"])
    return Path(file).parent.name if isinstance(file, str) else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """The git revision of the code, with `-dirty` where it has been edited since; None outside of git."""
    command = ["git", "-C", str(SCRIPTS), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


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
    """Project modules, perhaps, that are imported anywhere in a source text, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)


@cache
def _code(text: str) -> str:
    """What a source text does: its syntax tree without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = node.body[1:]
    return ast.dump(tree)
