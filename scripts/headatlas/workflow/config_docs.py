"""Writes the tables of config/README.md: PYTHONPATH=scripts python -m headatlas.workflow.config_docs."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

from headatlas.config.schema import expected, load_schema
from headatlas.workflow.atlas import METHODS, Atlas
from headatlas.workflow.settings import of_every_rule

ROOT = Path(__file__).parents[3]
README = ROOT / "config" / "README.md"
BEGIN, END = "<!-- keys: begin -->\n", "<!-- keys: end -->\n"
HEAD = "| key | meaning | value | unit | default | an edit recomputes |\n" + "| --- " * 6 + "|\n"
# A config whose keys are changed one by one, to see which rules' settings change.
SAMPLE = {
    "models": {"model": {"path": "workflow/resources/demo-model"}},
    "tasks": {task: {"source": f"config/tasks/{task}.jsonl"} for task in ("inference", "retrieval")},
}
# Values other than the default, where the schema does not imply one.
OTHER = {
    "models.<model>.device": "cpu", "items.max_items": 20, "items.max_tokens": 60, "evidence.dissociation_k": 3,
    "export.method": "attribution", "generation.stop": ["."],
    "compute.gpus": 2, "figures.order": ["retrieval"], "figures.labels": {"retrieval": "Finding"},
    "figures.title": "Heads",
    "figures.upper_limit": 0.5, "figures.signed_limit": 0.5, "figures.tick_step": 2, "figures.cell_size": 9,
    "figures.font": "Arial",
}  # fmt: skip
ENTRY = {"models": "<model>", "tasks": "<task>"}  # placeholders for the user's own names in these sections


def with_tables(text: str) -> str:
    """Return the README's text with today's tables between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


def tables() -> str:
    """Return one Markdown table for each section of the config, one line for each key."""
    parts = {"Without a section": ""}
    for name, schema in load_schema()["properties"].items():
        if "object" in schema.get("type", ""):
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
    cells = [f"`{path}`", key["description"], expected(key), unit, default, recomputed(path, key)]
    return f"| {' | '.join(map(_cell, cells))} |\n"


def recomputed(path: str, key: dict) -> str:
    """The rules whose settings change with a key, in words; the schema may state them instead."""
    if "recomputes" in key:
        return key["recomputes"]
    before, after = _rules(path, key["default"]), _rules(path, OTHER[path] if path in OTHER else _other(key))
    order = [*after, *(rule for rule in before if rule not in after)]
    changed = [rule for rule in order if before.get(rule) != after.get(rule)]
    return (", ".join(changed) + " of the model" * path.startswith("models.")) if changed else "nothing"


def _rules(path: str, value: object) -> dict[str, list[str]]:
    config = copy.deepcopy(SAMPLE)
    *sections, name = path.replace("<model>", "model").split(".")
    section = config
    for step in sections:
        section = section.setdefault(step, {})
    section[name] = value
    if path.startswith("methods."):  # an entry there would drop the other methods
        config["methods"] = {method: {} for method in METHODS} | config["methods"]
    return of_every_rule(Atlas(config, ROOT))


def _other(key: dict) -> object:
    """A valid value of a key other than its default."""
    default = key["default"]
    if "enum" in key:
        return next(value for value in key["enum"] if value != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        step = key.get("multipleOf", 1)
        return default + step if default < key.get("maximum", default + step) else default - step
    if isinstance(default, float):
        return 0.8 * default
    return f"{default} other"


def _default(key: dict) -> str:
    default = key["default"]
    return default if isinstance(default, str) else json.dumps(default, ensure_ascii=False)


def _edits(schema: dict) -> str:
    return f" Adding an entry recomputes {_cell(schema['recomputes'])}." if "recomputes" in schema else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
