"""Where a model's files are: in a folder, in an installed Python package, or in one GGUF file.

Standard library only; imported at parse time and where tokenizers are loaded.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from headatlas.errors import HeadAtlasError

PACKAGE = "package://"
MAGIC = b"GGUF"


def is_gguf(path: str | Path) -> bool:
    """Whether a file is GGUF, by its name or (Ollama names files by digest) by its first four bytes."""
    if str(path).lower().endswith(".gguf"):
        return not os.path.isdir(path)
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def find_in_package(path: str) -> str:
    """Return the file or folder that `package://name/file` names, without importing the package.

    The path is relative if it lies in the working directory, so that a run can move with its environment.

    Raises:
        HeadAtlasError: the package is not installed, or has no such file or folder.
    """
    name, _, inside = path.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier():
        raise HeadAtlasError(f"{path}: must be package://NAME/FILE, with the name by which Python imports the package")
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise HeadAtlasError(
            f"{path}: there is no Python package '{name}' for {sys.executable}; install it there with pip"
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    found = next((folder / inside for folder in folders if (folder / inside).exists()), None)
    if found is None:
        raise HeadAtlasError(
            f"{path}: the package '{name}' has no '{inside}' (looked in {folders[0]}{_held(folders[0])})"
        )
    here = Path.cwd()
    return str(found.relative_to(here) if found.is_relative_to(here) else found)


def _held(folder: Path) -> str:
    weights = sorted(file.name for kind in ("*.gguf", "*.safetensors") for file in folder.glob(kind))
    return f", which holds {', '.join(weights)}" if weights else ""


@contextmanager
def shown_to_transformers(path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield what `from_pretrained` takes for a model: a folder or hub id, and `gguf_file` for a GGUF file.

    A GGUF file is linked from a folder of its own, because transformers would prefer a tokenizer or an adapter that
    happens to lie beside it.
    """
    if not is_gguf(path):
        yield path, {}
        return
    with tempfile.TemporaryDirectory(prefix="headatlas-") as folder:
        os.symlink(os.path.abspath(path), os.path.join(folder, "model.gguf"))
        yield folder, {"gguf_file": "model.gguf"}
