"""results/index.html: the findings, figures and tables of all models in results/ on one page, by their manifests.

Imported while Snakemake reads the Snakefile: standard library, and Jinja (which Snakemake imports) to write the page.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from headatlas.jobs.cli import atomic
from headatlas.workflow.manifest import COMPARISON, NAME, read
from headatlas.workflow.targets import FIGURES, MAPS

SHOWN = ("png", "svg")  # images that a page can show, the lighter one first
ORDER = [*MAPS, *(figure.partition(".")[0] for figure in FIGURES)]
TEXTS = ("page/index.html", "findings.html", "findings.md", "provenance.json")
WORDS = {"page/index.html": "the heads, one by one"}  # of a link; others are named after their file
TABLES = (".csv", ".parquet")


def write_index(results: Path, template: Path) -> None:
    """Write the page of everything that the manifests in `results` name and that exists.

    Raises:
        HeadAtlasError: the page cannot be written.
    """
    import jinja2

    names = sorted(manifest.parent.name for manifest in results.glob(f"*/{NAME}"))
    names.sort(key=lambda name: name == COMPARISON)  # last
    sections = [section for name in names if (section := _section(results / name))]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["link"] = quote
    page = environment.from_string(template.read_text(encoding="utf-8")).render(sections=sections)
    with atomic(results / "index.html") as draft:
        draft.write_text(page, encoding="utf-8")


def _section(folder: Path) -> dict | None:
    """What the page says of a model (or of the comparison); None if it has neither figure nor table."""
    known = read(folder)
    files = [PurePosixPath(name) for name in (known.current if known else []) if (folder / name).is_file()]
    results = [file for file in files if _is_result(file)]
    figures, tables = _figures(folder, files), [file for file in results if _is_listed(file)]
    if not (figures or tables):
        return None
    newest = max((folder / file).stat().st_mtime for file in results)
    return {
        "name": folder.name,
        "compared": folder.name == COMPARISON,
        "config": known.config,
        "date": f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC",
        "texts": {name: WORDS.get(name, name) for name in TEXTS if PurePosixPath(name) in files},
        "figures": figures,
        "tables": [str(file) for file in sorted(tables, key=lambda file: (len(file.parts), file))],
    }


def _is_result(file: PurePosixPath) -> bool:
    """Whether it is for readers: directly in the folder, a figure, a table of the evidence, or a list of heads."""
    return len(file.parts) == 1 or (len(file.parts) == 2 and file.parts[0] in ("figures", "evidence", "heads"))


def _is_listed(file: PurePosixPath) -> bool:
    """Whether the page lists it among the tables: a table, or a list of heads."""
    return file.suffix in TABLES or (file.parts[0] == "heads" and file.suffix == ".json")


def _figures(folder: Path, files: Iterable[PurePosixPath]) -> list[dict]:
    """Each figure with an image that a page can show: name, caption, image, link to the largest view, all formats."""
    formats: dict[str, list[str]] = {}
    for file in files:
        if file.parts[0] == "figures":
            formats.setdefault(file.stem, []).append(file.suffix[1:])
    found = []
    for name in sorted(formats, key=_place):
        image = next((form for form in SHOWN if form in formats[name]), None)
        if image and "json" in formats[name]:
            linked = "html" if "html" in formats[name] else image
            caption = json.loads((folder / f"figures/{name}.json").read_text(encoding="utf-8")).get("description", name)
            found.append(
                {"name": name, "caption": caption, "image": image, "linked": linked, "formats": sorted(formats[name])}
            )
    return found


def _place(name: str) -> tuple[int, str]:
    kind = name.partition(".")[0]
    return (ORDER.index(kind) if kind in ORDER else len(ORDER)), name
