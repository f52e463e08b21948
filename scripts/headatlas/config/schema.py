"""The closed schema of config.yaml: reads it, applies it, and words it for messages and for config/README.md.

Standard library, yaml and jsonschema only. Knows nothing about the meaning of keys.
"""

import difflib
import functools
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from headatlas.wording import either, nearest, shorten

IN_REPOSITORY = Path(__file__).parents[3] / "workflow" / "schemas"
INSTALLED = Path(sys.prefix) / "share" / "headatlas"  # where pip puts them (pyproject.toml), unless it installs with -e
SCHEMA_FILE = (IN_REPOSITORY if IN_REPOSITORY.is_dir() else INSTALLED) / "config.schema.yaml"
UNFIT = object()  # marks a value that no key can have
DEEPEST = 20  # a config nested deeper than this is a mistake, or a YAML alias inside itself

Steps = tuple[str | int, ...]  # path from the top of the config to a value
Problem = tuple[Steps, str]  # where it is, what is wrong and what to do


@functools.cache
def load_schema(path: Path = SCHEMA_FILE) -> dict:
    """Read the schema with every `$ref` resolved, as plain data."""
    return _resolve(read_yaml(path), path)


def read_yaml(path: Path) -> dict:
    """Read one of the project's own YAML files."""
    import yaml

    with open(path, encoding="utf-8") as file:
        return yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def fill_defaults(schema: dict, value: object) -> object:
    """Return `value` with the schema's defaults at every level; an empty section (null) counts as {}."""
    if value is None and "object" in schema.get("type", []):
        value = {}
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    filled = {key: known[key]["default"] for key in known if "default" in known[key]} | value
    others = schema.get("additionalProperties")
    entry = others if isinstance(others, dict) else {}
    return {key: fill_defaults(known.get(key, entry), item) for key, item in filled.items()}


def plain(value: object, problems: list[Problem], at: Steps = ()) -> object:
    """Copy YAML values as JSON types; values without one are added to `problems` and become `UNFIT`."""
    if len(at) > DEEPEST:
        problems.append((at[:3], "is nested too deeply; a config has at most five levels"))
        return UNFIT
    if isinstance(value, dict):
        odd = [key for key in value if not isinstance(key, str)]
        problems += [((*at, str(key)), f"a key must be text; write it in quotes: '{key}'") for key in odd]
        copies = {key: plain(item, problems, (*at, key)) for key, item in value.items() if key not in odd}
        return {key: copy for key, copy in copies.items() if copy is not UNFIT}
    if isinstance(value, list | tuple):
        copies = [plain(item, problems, (*at, index)) for index, item in enumerate(value)]
        return [copy for copy in copies if copy is not UNFIT]
    if value is None or isinstance(value, str | int | float):
        return value
    problems.append((at, f"is a {type(value).__name__}, which no key takes; write it in quotes if it is text"))
    return UNFIT


def complaints(schema: dict, given: dict) -> list[Problem]:
    """Return every way in which `given` (JSON types) breaks the schema, in the order of its keys."""
    found: list[Problem] = []
    for error in _validator()(schema).iter_errors(given):
        found += [problem for problem in _in_words(error) if problem not in found]
    return found


def expected(schema: dict) -> str:
    """Word what a schema allows, such as "a whole number of at least 1 or null"."""
    if "says" in schema:
        return schema["says"]
    if "enum" in schema:
        return either(_yaml(value) for value in schema["enum"])
    if "const" in schema:
        return _yaml(schema["const"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return either(expected(part) for part in schema[union])
    kinds = schema.get("type", [])
    return either(_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def key_path(steps: Steps) -> str:
    """Write the path of a value as messages show it: models.demo.path, tasks.a.source[1]."""
    path = ""
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f".{shorten(step)}" if path else shorten(step)
    return path or "config"


def _resolve(schema: object, file: Path, root: object = None) -> object:
    root = schema if root is None else root
    if isinstance(schema, list):
        return [_resolve(part, file, root) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _resolve(part, file, root) for key, part in schema.items() if key not in ("$defs", "$ref")}
    if not isinstance(schema.get("$ref"), str):
        return rest
    name, _, pointer = schema["$ref"].partition("#")
    there = file.parent / name if name else file
    target = other = read_yaml(there) if name else root
    for step in pointer.split("/")[1:]:
        target = target[step]
    return _resolve(target, there, other) | rest


@functools.cache
def _validator() -> type:
    from jsonschema import Draft202012Validator, validators

    def whole(_, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)  # unlike the standard: 1.0 is not whole

    def number(_, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    types = Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": whole, "number": number})
    return validators.extend(Draft202012Validator, type_checker=types)


def _in_words(error) -> Iterator[Problem]:
    at, schema, value = tuple(error.absolute_path), error.schema, error.instance
    if "propertyNames" in error.absolute_schema_path:
        yield (*at, value), f"the name must be {expected(schema)}"
    elif error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        noun = "method" if at == ("methods",) else "key"
        for key in (key for key in value if key not in known):
            yield (*at, key), f"unknown {noun}; {nearest(key, known)}"
    elif error.validator == "required":
        for key in (key for key in error.validator_value if key not in value):
            wanted = schema["properties"][key]
            yield (*at, key), f"is missing; {wanted.get('description', expected(wanted))}"
    elif error.validator == "minProperties":
        yield at, "is empty; name at least one entry"
    elif error.validator == "minLength":
        yield at, "must not be empty text"
    elif error.validator == "uniqueItems":
        yield at, "names an entry twice; remove one"
    else:
        yield at, f"must be {expected(schema)}, got {shown(value)}{_hint(value, schema)}"


def shown(value: object) -> str:
    """Describe a value from the config in a few words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return f"the text '{shorten(value)}'" if isinstance(value, str) else shorten(_yaml(value))


def _hint(value: object, schema: dict) -> str:
    if not isinstance(value, str):
        return ""
    choices = [choice for choice in schema.get("enum", []) if isinstance(choice, str)]
    near = difflib.get_close_matches(value.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{next(choice for choice in choices if choice.lower() == near[0])}'?"
    try:
        number = float(value)
    except ValueError:
        return ""
    if not math.isfinite(number) or "number" not in expected(schema):
        return ""
    plainly = f"{number:f}".rstrip("0").rstrip(".")
    return f"; write {plainly}" + (" (YAML reads 1e-3 as text)" if "e" in value else "")


def _kind(kind: str, schema: dict) -> str:
    words = {"string": "text", "boolean": "true or false"}
    if kind == "object":
        values = schema.get("additionalProperties")
        text = isinstance(values, dict) and values.get("type") == "string"
        return f"a mapping of names to {'text' if text else 'settings'}"
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "array":
        return f"a list of {expected(schema['items'])}" if isinstance(schema.get("items"), dict) else "a list"
    return words.get(kind, kind)


def _range(schema: dict) -> str:
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    bounds = {"minimum": "of at least", "exclusiveMinimum": "above"}
    bounds |= {"maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{words} {schema[bound]}" for bound, words in bounds.items() if bound in schema]
    return " " + " and ".join(said) if said else ""


def _yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
