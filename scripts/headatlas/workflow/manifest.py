"""Which files under results/ the current config makes, and which ones earlier states of it left.

Each folder results/{model} (and results/comparison) has a manifest.json: the config files it belongs to, the files of
their last plan (`current`), and those of earlier plans that still exist (`earlier`). Only files named by a plan count
as left over: the user's own files are never named or removed.

Imported while Snakemake reads the Snakefile: standard library, and yaml when two configs meet.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import write_json

NAME = "manifest.json"
COMPARISON = "comparison"
# Files that no reader mistakes for a result, and that save computation when a task, method or model comes back.
REUSABLE = ("attention", "balanced", "baseline.safetensors", "effects", "items", "logs", "scores", "trace")
FOLDERS = ("page/data",)  # outputs that are folders; any other folder that a manifest names may hold a user's files


@dataclass
class Manifest:
    """The manifest of one folder: its config files relative to the working directory, its own files relative to the
    folder."""

    config: list[str]
    current: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)


def check_owner(folder: Path, config: list[str]) -> None:
    """Refuse to write into a folder of another config that still names this model (two models for the comparison).

    Raises:
        HeadAtlasError: names the folder, both configs, and what to do.
    """
    known = read(folder)
    if known is None or known.config == config or not _claims(known.config, folder.name):
        return
    way = "" if folder.name == COMPARISON else f"give the model another name than '{folder.name}' in one of them, or "
    raise HeadAtlasError(
        f"{folder}: holds results of {', '.join(known.config)}, with which those of {', '.join(config)} would mix; "
        f"{way}run one of them with --directory FOLDER"
    )


def by_folder(files: Iterable[str], folders: Iterable[Path]) -> dict[Path, list[str]]:
    """Group files by their folder, with paths relative to it; leave out all others."""
    sorted_in: dict[Path, list[str]] = {}
    folders = [*folders]
    for file in map(Path, files):
        for folder in folders:
            if folder in file.parents:
                sorted_in.setdefault(folder, []).append(str(file.relative_to(folder)))
    return sorted_in


def begin(folders: Mapping[Path, list[str]], config: list[str]) -> None:
    """Record what a run is going to make.

    Args:
        folders: the files planned in each folder, relative to it.
    """
    for folder, planned in folders.items():
        known = read(folder) or Manifest(config)
        current = sorted({*known.current, *planned})
        _write(folder, Manifest(config, current, sorted({*known.earlier} - {*planned})))


def finish(results: Path, folders: Mapping[Path, list[str]], config: list[str]) -> None:
    """Record that the planned files are all that a config makes, in these and its former folders."""
    former = (file.parent for file in sorted(results.glob(f"*/{NAME}")))
    for folder in {**folders, **{folder: [] for folder in former if folder not in folders}}:
        known = read(folder) or Manifest(config)
        if folder in folders or known.config == config:
            planned = folders.get(folder, [])
            left = {*known.current, *known.earlier} - {*planned}
            earlier = sorted(name for name in left if _is_output(folder, name))
            _write(folder, Manifest(config, sorted(planned), earlier))


def left_over(results: Path, config: list[str] | None = None) -> tuple[list[Path], list[Path]]:
    """Return the files that earlier states of configs left: those that look like results, and reusable ones.

    Args:
        config: of this config only; None: of all configs.
    """
    outdated, reusable = [], []
    for manifest in sorted(results.glob(f"*/{NAME}")):
        known = read(manifest.parent)
        if known is None or config not in (None, known.config):
            continue
        for name in known.earlier:
            parts, file = Path(name).parts, manifest.parent / name
            inside = parts and ".." not in parts and not Path(name).is_absolute()  # a user may have edited it
            if inside and name not in known.current and _is_output(manifest.parent, name):
                again = parts[0] in REUSABLE or file.suffix == ".safetensors"
                (reusable if again else outdated).append(file)
    return outdated, reusable


def _is_output(folder: Path, name: str) -> bool:
    return (folder / name).is_file() or (name in FOLDERS and (folder / name).is_dir())


def remove(results: Path, files: Iterable[Path]) -> None:
    """Remove what `left_over` names, folders that become empty, and the entries in the manifests.

    Raises:
        HeadAtlasError: a file cannot be removed.
    """
    for file in files:
        try:
            if file.is_dir():  # one of `FOLDERS`
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise HeadAtlasError(f"{file}: cannot be removed: {error.strerror}") from None
        _remove_empty(file.parent, results)
    for manifest in list(results.glob(f"*/{NAME}")):
        if known := read(manifest.parent):
            earlier = [name for name in known.earlier if _is_output(manifest.parent, name)]
            _write(manifest.parent, Manifest(known.config, known.current, earlier))


def read(folder: Path) -> Manifest | None:
    """Return a folder's manifest; None if it is missing or unreadable."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        lists = [content[name] for name in ("config", "current", "earlier")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in lists)
    return Manifest(*lists) if sound else None


def _write(folder: Path, manifest: Manifest) -> None:
    """Write what has changed; delete the manifest of a folder from which all files are gone."""
    if manifest == read(folder):
        return
    if manifest.current or manifest.earlier:
        write_json(folder / NAME, asdict(manifest))
        return
    (folder / NAME).unlink(missing_ok=True)
    _remove_empty(folder, folder.parent)


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and top in folder.parents:
        with suppress(OSError):  # not empty, or gone
            folder.rmdir()
        folder = folder.parent


def _claims(config: list[str], name: str) -> bool:
    """Whether config files that still exist name the model."""
    import yaml

    named: set[str] = set()
    for file in filter(os.path.isfile, config):
        with suppress(OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError), open(file, "rb") as opened:
            named |= {*yaml.safe_load(opened)["models"]}
    return len(named) > 1 if name == COMPARISON else name in named
