"""Writes the tables of config/README.md: PYTHONPATH=scripts python -m headatlas.config_docs."""

import json
from collections.abc import Iterator
from pathlib import Path

from headatlas.schema import expected, load_schema

README = Path(__file__).parents[2] / "config" / "README.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
HEAD = "| key | meaning | value | unit | default | an edit recomputes |\n" + "| --- " * 6 + "|\n"
ENTRY = {"models": "<model>", "tasks": "<task>"}  # how the sections with names of the user's own show them


def with_tables(text: str) -> str:
    """Return the README's text with today's tables between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


def tables() -> str:
    """Return one Markdown table for each section of the config, one line for each key."""
    parts = {"Without a section": ""}
    for name, schema in load_schema()["properties"].items():
        if "object" in schema["type"]:
            lines = "".join(_line(path, key) for path, key in _keys(name, schema))
            parts[name] = f"{_cell(schema['description'])}{_edits(schema)}\n\n{HEAD}{lines}"
        else:
            parts["Without a section"] += (HEAD if not parts["Without a section"] else "") + _line(name, schema)
    return "\n" + "\n".join(f"### {name}\n\n{part}" for name, part in parts.items()) + "\n"


def _keys(path: str, schema: dict) -> Iterator[tuple[str, dict]]:
    if path in ENTRY:
        path, schema = f"{path}.{ENTRY[path]}", schema["additionalProperties"]
    if not schema.get("properties"):
        yield path, schema
    for name, key in schema.get("properties", {}).items():
        yield from _keys(f"{path}.{name}", key)


def _line(path: str, key: dict) -> str:
    unit, default = key.get("unit", ""), f"`{_default(key)}`" if "default" in key else "required"
    cells = [f"`{path}`", key["description"], expected(key), unit, default, key["recomputes"]]
    return f"| {' | '.join(map(_cell, cells))} |\n"


def _default(key: dict) -> str:
    default = key["default"]
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def _edits(schema: dict) -> str:
    return f" Adding an entry recomputes {_cell(schema['recomputes'])}." if "recomputes" in schema else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
