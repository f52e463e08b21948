"""Which files under results/ the present config makes, and which an earlier state of it made and left.

Each folder results/{model} (and results/comparison) has a manifest.json: the config files it belongs to, the files of
their last plan (`current`), and those of plans before that are still there (`earlier`). Only files that a plan named
are ever called left over: what the user put there is not known here, so neither named nor removed.

Imported while Snakemake reads the Snakefile: standard library, and yaml where two configs meet.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import write_json

NAME = "manifest.json"
COMPARISON = "comparison"
# What no reader takes for a result, and what saves its computation when a task, method or model comes back.
REUSABLE = ("balanced", "baseline.safetensors", "effects", "items", "logs", "scores", "trace")


@dataclass
class Manifest:
    """Of one folder: names of its config files from the working directory, and of its own files from the folder."""

    config: list[str]
    current: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)


def check_owner(folder: Path, config: list[str]) -> None:
    """Refuse to write into a folder of another config that still names this model (or, for the comparison, two).

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
    """Sort files into the folders that they lie in, each named from its folder; leave out all others."""
    sorted_in: dict[Path, list[str]] = {}
    folders = [*folders]
    for file in map(Path, files):
        for folder in folders:
            if folder in file.parents:
                sorted_in.setdefault(folder, []).append(str(file.relative_to(folder)))
    return sorted_in


def begin(folders: Mapping[Path, list[str]], config: list[str]) -> None:
    """Take down what a run is going to make.

    Args:
        folders: for each folder, the files planned in it, named from the folder.
    """
    for folder, planned in folders.items():
        known = read(folder) or Manifest(config)
        current = sorted({*known.current, *planned})
        _write(folder, Manifest(config, current, sorted({*known.earlier} - {*planned})))


def finish(results: Path, folders: Mapping[Path, list[str]], config: list[str]) -> None:
    """Take down that the files planned for all of a config are all that it makes, in these and its former folders."""
    former = (file.parent for file in sorted(results.glob(f"*/{NAME}")))
    for folder in {**folders, **{folder: [] for folder in former if folder not in folders}}:
        known = read(folder) or Manifest(config)
        if folder in folders or known.config == config:
            planned = folders.get(folder, [])
            left = {*known.current, *known.earlier} - {*planned}
            earlier = sorted(name for name in left if (folder / name).is_file())
            _write(folder, Manifest(config, sorted(planned), earlier))


def left_over(results: Path, config: list[str] | None = None) -> tuple[list[Path], list[Path]]:
    """Return the files that earlier states of configs left: those that look like results, and those for use again.

    Args:
        config: of this config only; None is of all.
    """
    outdated, reusable = [], []
    for manifest in sorted(results.glob(f"*/{NAME}")):
        known = read(manifest.parent)
        if known is None or config not in (None, known.config):
            continue
        for name in known.earlier:
            parts, file = Path(name).parts, manifest.parent / name
            inside = parts and ".." not in parts and not Path(name).is_absolute()  # an edited manifest may say anything
            if inside and name not in known.current and file.is_file():
                again = parts[0] in REUSABLE or file.suffix == ".safetensors"
                (reusable if again else outdated).append(file)
    return outdated, reusable


def remove(results: Path, files: Iterable[Path]) -> None:
    """Remove files of `left_over`, the folders that are empty without them, and their place in the manifests.

    Raises:
        HeadAtlasError: a file cannot be removed.
    """
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise HeadAtlasError(f"{file}: cannot be removed: {error.strerror}") from None
        _remove_empty(file.parent, results)
    for manifest in list(results.glob(f"*/{NAME}")):
        if known := read(manifest.parent):
            earlier = [name for name in known.earlier if (manifest.parent / name).is_file()]
            _write(manifest.parent, Manifest(known.config, known.current, earlier))


def read(folder: Path) -> Manifest | None:
    """Return a folder's manifest; None where there is none, or none that can be read."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        lists = [content[name] for name in ("config", "current", "earlier")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = all(isinstance(each, list) and all(isinstance(name, str) for name in each) for each in lists)
    return Manifest(*lists) if sound else None


def _write(folder: Path, manifest: Manifest) -> None:
    """Write what has changed; a folder of which nothing is left loses its manifest."""
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
    """Whether config files that are still there name the model."""
    import yaml

    named: set[str] = set()
    for file in filter(os.path.isfile, config):
        with suppress(OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError), open(file, "rb") as opened:
            named |= {*yaml.safe_load(opened)["models"]}
    return len(named) > 1 if name == COMPARISON else name in named
