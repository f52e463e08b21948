"""What a model's results were made from: config, files, code, packages, devices. Standard library only."""

import json
import platform
import struct
import subprocess
from importlib import metadata
from pathlib import Path

from headatlas.models.folder import is_local

SCRIPTS = Path(__file__).resolve().parents[2]
PACKAGE = "headatlas"
PACKAGES = (
    "snakemake", "torch", "transformers", "tokenizers", "accelerate", "safetensors", "numpy", "scipy", "polars",
    "pyarrow", "altair", "vl-convert-python", "gguf", "bitsandbytes",
)  # fmt: skip


def describe_results(settings: dict, traces: list[Path], engines: list[dict]) -> dict:
    """Everything behind a model's results that can change a number.

    Versions and the git revision are those when the file is written, right after the results.

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
        "stored_as": settings["stored_as"],
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
    """The commit of a hub model: its files lie in a folder of that name; None for a local model."""
    if is_local(model["path"]):
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
