"""Writes the tables of config/README.md from the schema: `PYTHONPATH=scripts python -m headatlas.config_docs`."""

import json
from collections.abc import Iterator
from pathlib import Path

from headatlas.schema import expected, load_schema

README = Path(__file__).parents[2] / "config" / "README.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
HEAD = "| key | meaning | value | default | an edit recomputes |\n| --- | --- | --- | --- | --- |\n"
ENTRY = {"models": "<model>", "tasks": "<task>"}  # how the sections with names of the user's own show them


def with_tables(text: str) -> str:
    """Return the README's text with what stands between the two marks replaced by the tables of today's schema."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


def tables() -> str:
    """Return one Markdown table for each section of the config, one line for each key."""
    sections = load_schema()["properties"]
    single = {name: schema for name, schema in sections.items() if "object" not in _kinds(schema)}
    parts = [
        "### Without a section\n\n" + HEAD + "".join(_line(name, schema) for name, schema in single.items())
    ]
    for name, schema in sections.items():
        if name not in single:
            lines = "".join(_line(path, key) for path, key in _keys(name, schema))
            parts.append(f"### {name}\n\n{_cell(schema['description'])}{_edits(schema)}\n\n{HEAD}{lines}")
    return "\n" + "\n".join(parts) + "\n"


def all_keys() -> dict[str, dict]:
    """Return the schema of every key that takes a value, by its path (models.<model>.dtype)."""
    sections = load_schema()["properties"]
    return {path: key for name, schema in sections.items() for path, key in _keys(name, schema)}


def default_of(key: dict, required: bool = False) -> str:
    """Return a key's default as it is written in YAML."""
    if "default" not in key:
        return "required"
    return (
        key["default"] if isinstance(key["default"], str) else json.dumps(key["default"], ensure_ascii=False)
    )


def _keys(path: str, schema: dict) -> Iterator[tuple[str, dict]]:
    entry = schema.get("additionalProperties")
    if path in ENTRY:
        path, schema = f"{path}.{ENTRY[path]}", entry
    if not schema.get("properties"):
        yield path, schema
    for name, key in schema.get("properties", {}).items():
        yield from _keys(f"{path}.{name}", key)


def _line(path: str, key: dict) -> str:
    value = expected(key) + (f" ({key['unit']})" if "unit" in key else "")
    cells = [f"`{path}`", key["description"], value, f"`{default_of(key)}`", key["recomputes"]]
    return f"| {' | '.join(map(_cell, cells))} |\n"


def _edits(schema: dict) -> str:
    return f" Adding an entry recomputes {_cell(schema['recomputes'])}." if "recomputes" in schema else ""


def _kinds(schema: dict) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
