"""Checks a config, and words the messages about mistakes.

Imported while Snakemake reads the Snakefile: standard library, yaml and jsonschema only. Knows only the format of task
files, not their content.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from headatlas.config.schema import Problem, complaints, fill_defaults, key_path, load_schema, plain, shown
from headatlas.errors import HeadAtlasError
from headatlas.models.folder import Geometry, check_model_folder, find_model, is_local, read_geometry
from headatlas.tasks.cogqa import SKILLS
from headatlas.tasks.formats import format_of
from headatlas.wording import either, nearest, shorten

__all__ = [
    "Geometry",
    "check_config_file",
    "check_layers_per_job",
    "check_model_folder",
    "load_config",
    "longest_item",
    "read_geometry",
]
TOP = 20  # methods.ablation.top, where items is adaptive
TAKEN = ("comparison", "vega.js")  # of results/, used for what all models share

BRACES = "contains a brace, which Snakemake reads as part of a wildcard; rename it"


def load_config(config: dict, base: Path) -> dict:
    """Check the config and return it complete, with every default filled in and every path resolved.

    In the result `models.*.path` of a local model and `tasks.*.source` (always a list) can be opened from the
    working directory; `tasks.*` have `format` and their own `max_items`; cogqa tasks, and only they, have `skill` and
    `context`; adaptive ablation has either `top` or `smallest_effect`.

    Args:
        config: as Snakemake read it, including `--config` overrides; not modified.
        base: folder in which to look for paths that do not exist relative to the working directory.
    Raises:
        HeadAtlasError: all mistakes at once, one line each: key, what is wrong, what to do.
    """
    problems: list[Problem] = []
    given = plain(config, problems)
    if not isinstance(given, dict):
        raise HeadAtlasError(f"config: must be a mapping of keys to values, got {shown(given)}")
    schema = load_schema()
    problems += complaints(schema, given)
    filled = fill_defaults(schema, _sound_part(given, schema, problems))
    settles = (_settle_models, _settle_tasks, _check_shared_sources, _settle_export)
    for settle in (*settles, _check_methods, _settle_adaptive, _check_probe, _check_evidence, _check_figures):
        problems += settle(filled, given, Path(base))
    if problems:
        raise HeadAtlasError("\n".join(dict.fromkeys(f"{key_path(at)}: {said}" for at, said in problems)))
    return filled


def check_layers_per_job(layers_per_job: int | None, model: str, geometry: Geometry) -> None:
    """Refuse a block of layers larger than the model.

    Raises:
        HeadAtlasError: names the key, the model and its number of layers.
    """
    if layers_per_job is not None and layers_per_job > geometry.n_layers:
        raise HeadAtlasError(
            f"compute.layers_per_job: {layers_per_job} layers are more than the {geometry.n_layers} of model "
            f"'{model}'; give at most {geometry.n_layers}, or null for all layers in one job"
        )


def longest_item(config: dict, geometry: Geometry) -> int | None:
    """Maximum number of tokens of an item: items.max_tokens, but never more than the model's context."""
    limits = [n for n in (config["items"]["max_tokens"], geometry.max_positions) if n is not None]
    return min(limits, default=None)


def check_config_file(path: Path) -> None:
    """Refuse a file without keys, or with a repeated key (two tasks of one name): YAML silently uses the last one.

    Raises:
        HeadAtlasError: the file and the lines of both keys; or why the file cannot be read.
    """
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise HeadAtlasError(f"{path}: cannot be read (looked in {Path.cwd()}): {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise HeadAtlasError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise HeadAtlasError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(root, yaml.MappingNode):
        held = "is empty" if root is None else f"holds {'a list' if isinstance(root, yaml.SequenceNode) else 'a text'}"
        raise HeadAtlasError(f"{path}: {held}; it must hold keys with values, at least models and tasks")
    nodes = [root]
    seen = set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:  # an alias repeats a node, perhaps inside itself
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_repeats(path, [key for key, _ in node.value])
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value


def _refuse_repeats(path: Path, keys: list) -> None:
    lines: dict[str, int] = {}
    for key in keys:
        line = key.start_mark.line + 1
        first = lines.setdefault(str(key.value), line)
        if first != line and key.value != "<<":
            raise HeadAtlasError(
                f"{path}:{line}: the key '{shorten(str(key.value))}' stands here a second time (first in "
                f"line {first}), and only one would count; rename or remove one"
            )


def _sound_part(given: dict, schema: dict, problems: list[Problem]) -> dict:
    """Return `given` without the models, tasks and sections that have a problem: the rest can be checked."""
    sound = {key: value for key, value in given.items() if key in schema["properties"]}
    for at, _ in problems:
        entries = sound.get(at[0]) if at else None
        if len(at) > 1 and at[0] in ("models", "tasks") and isinstance(entries, dict):
            sound[at[0]] = {name: entry for name, entry in entries.items() if name != at[1]}
        elif at:
            sound.pop(at[0], None)
    return {"models": {}, "tasks": {}} | sound


def _settle_models(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    for name, model in config["models"].items():
        at = ("models", name)
        if name in TAKEN:
            yield at, f"is reserved for a part of results/ ({', '.join(TAKEN)}); choose another name"
        try:
            model["path"] = find_model(model["path"], base)
        except HeadAtlasError as error:
            yield (*at, "path"), str(error)
            continue
        if model["compare_to"] == name:
            yield (*at, "compare_to"), "names the model itself; give another model, or its folder in another run"
        elif model["compare_to"] is not None and model["compare_to"] not in given["models"]:
            model["compare_to"] = _find(model["compare_to"], base)
        if is_local(model["path"]) and set(model["path"]) & set("{}"):
            yield (*at, "path"), f"{shorten(model['path'])} {BRACES}"
        if model["revision"] is not None and is_local(model["path"]):
            yield (
                (*at, "revision"),
                f"applies to hub models, but {shorten(model['path'])} is local; remove it",
            )
        if model["device_map"] == "auto" and model["device"] != "auto":
            yield (
                (*at, "device_map"),
                f"auto places the layers itself, but device is '{model['device']}'; remove one of them",
            )
        if model["attn_implementation"] == "flash_attention_2" and model["dtype"] == "float32":
            yield (*at, "attn_implementation"), "flash_attention_2 needs dtype bfloat16 or float16"
        if model["attn_implementation"] == "flash_attention_2" and model["device"] == "cpu":
            yield (*at, "attn_implementation"), "flash_attention_2 needs a GPU, but device is cpu"


def _settle_tasks(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    items = config["items"]
    for name, task in config["tasks"].items():
        at = ("tasks", name)
        sources = [task["source"]] if isinstance(task["source"], str) else task["source"]
        task["source"] = [_find(source, base) for source in sources]
        yield from (((*at, "source"), wrong) for file in task["source"] if (wrong := _wrong_file(file, base)))
        yield from (((*at, "source"), f"{shorten(file)} {BRACES}") for file in task["source"] if set(file) & set("{}"))
        if len({os.path.abspath(file) for file in task["source"]}) < len(sources):
            yield (*at, "source"), "names a file twice; remove one"
        task["format"] = task["format"] or _format_of(task["source"])
        if task["format"] is None:
            listed = shorten(", ".join(sources))
            yield (
                (*at, "format"),
                f"cannot be inferred from {listed}; set jsonl, json, csv or cogqa for files of one format",
            )
        if task["max_items"] is None:
            task["max_items"] = items["max_items"]
        yield from _settle_cogqa(name, task)


def _settle_cogqa(name: str, task: dict) -> Iterator[Problem]:
    at = ("tasks", name)
    if task["format"] == "cogqa":
        task["skill"] = task["skill"] or SKILLS.get(name)
        task["context"] = task["context"] or "all"
        if task["skill"] is None:
            yield (*at, "skill"), f"cannot be inferred from the task's name; give {either(SKILLS.values())}"
        return
    for only in ("skill", "context"):
        if task.pop(only) is not None and task["format"] is not None:
            yield (*at, only), f"applies to format cogqa, but the task's format is {task['format']}; remove it"


def _check_shared_sources(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    """Splits are made per set of files: the questions of a file in two sets would be split in two ways."""
    sets: dict[str, tuple[str, set[str]]] = {}
    for name, task in config["tasks"].items():
        files = {os.path.abspath(file) for file in task["source"]}
        others = [sets.setdefault(file, (name, files)) for file in sorted(files)]
        for other in dict.fromkeys(other for other, their_files in others if their_files != files):
            yield (
                ("tasks", name, "source"),
                f"shares a file, but not all files, with tasks.{other}: questions would be split into score "
                "and validate in two ways; give both tasks the same files",
            )


def _check_methods(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    """`resample` draws from means at answer positions, which are out of distribution at other positions."""
    for name, method in config["methods"].items():
        if method.get("baseline") == "resample" and method["positions"] == "all":
            yield (
                ("methods", name, "baseline"),
                "resample works only with positions: answer; use mean, task_mean or zero",
            )


def _settle_adaptive(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    """Adaptive ablation compares the heads of a task in one job, and leaves each with items of its own."""
    ablation, at = config["methods"].get("ablation"), ("methods", "ablation")
    if ablation is None:
        return
    named = [key for key in ("top", "smallest_effect") if ablation[key] is not None]
    if ablation["items"] != "adaptive":
        yield from (((*at, key), "applies to items: adaptive, but items is all; remove one") for key in named)
        return
    if not named:
        ablation["top"] = TOP
    if len(named) == 2:
        yield (*at, "smallest_effect"), "replaces top; remove one of them"
    if ablation["smallest_effect"] is None and config["compute"]["layers_per_job"] is not None:
        yield (
            (*at, "top"),
            "compares all heads of a task, which compute.layers_per_job divides among several jobs; set that to null, "
            "or give a smallest_effect instead of top",
        )
    if config["evidence"]["run"] and config["evidence"]["groups"]:
        yield (
            (*at, "items"),
            "adaptive measures heads on different items, so their sum cannot be compared with that of a group; "
            "use all, or set evidence.groups to false",
        )
    if config["statistics"]["items"] == "correct":
        yield (*at, "items"), "adaptive chooses heads by all items; use it with statistics.items: all"
    if config["evidence"]["run"] and len(config["models"]) > 1:
        yield (
            (*at, "items"),
            "adaptive measures heads on different items, so several models cannot be compared; use all, map one model "
            "at a time, or set evidence.run to false",
        )


def _check_probe(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    tasks = given.get("tasks")
    if "probe" in config["methods"] and isinstance(tasks, dict) and len(tasks) == 1:
        yield ("methods", "probe"), "needs at least two tasks to tell apart; add a task, or choose other methods"


def _check_evidence(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    """Heads are chosen for the same-answer control by ablation, and patched on held-out questions; groups of heads are
    compared with single ones."""
    evidence = config["evidence"]
    if evidence["run"] and evidence["groups"] and "ablation" not in config["methods"]:
        yield ("evidence", "groups"), "compares groups of heads with single ones by ablation; add ablation to methods"
    if not (evidence["run"] and evidence["same_answer"]):
        return
    if "ablation" not in config["methods"]:
        yield ("evidence", "same_answer"), "chooses its heads by ablation; add ablation to methods"
    if not config["items"]["validate_fraction"]:
        yield (
            ("evidence", "same_answer"),
            "patches heads on held-out questions; set items.validate_fraction above 0",
        )


def _settle_export(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    """Name the method whose map chooses the heads, and refuse what its map cannot say."""
    export, evidence = config["export"], config["evidence"]
    named = given["methods"] if isinstance(given.get("methods"), dict) else config["methods"]
    methods = [name for name in load_schema()["properties"]["methods"]["properties"] if name in named]
    if export["method"] not in (None, *methods):
        yield ("export", "method"), f"names {export['method']}, which is not under methods; add it there, or give null"
    export["method"] = export["method"] or next(iter(methods), None)
    if export["heads"] == "significant" and export["method"] == "gates":
        yield ("export", "heads"), "significant needs q-values, which gates lack; use top or keep, or another method"
    if export["heads"] == "keep" and not (
        evidence["run"] and evidence["sufficiency"] and config["items"]["validate_fraction"]
    ):
        yield (
            ("export", "heads"),
            "keep needs the heads kept alone on held-out questions; set evidence.run and evidence.sufficiency to true "
            "and items.validate_fraction above 0, or use top",
        )


def _check_figures(config: dict, given: dict, base: Path) -> Iterator[Problem]:
    figures, tasks = config["figures"], given.get("tasks")
    tasks = list(tasks) if isinstance(tasks, dict) else []
    for option in ("order", "labels"):
        named = figures.get(option) if isinstance(figures, dict) else None
        for name in dict.fromkeys(named or ()):
            if name not in tasks:
                yield (
                    ("figures", option),
                    f"names the task '{shorten(name)}', which is not under tasks; {nearest(name, tasks)}",
                )
    labels = list(((figures or {}).get("labels") or {}).values())
    for label in dict.fromkeys(label for label in labels if labels.count(label) > 1):
        yield ("figures", "labels"), f"gives two tasks the label '{shorten(str(label))}'; labels must differ"


def _find(path: str, base: Path) -> str:
    """Return `path` relative to the working directory if it exists there, else relative to `base`."""
    here = os.path.expanduser(path)
    there = os.path.join(base, here)
    return there if not os.path.exists(here) and os.path.exists(there) else here


def _wrong_file(path: str, base: Path) -> str | None:
    if os.path.isfile(path):
        return None
    if os.path.isdir(path):
        return f"'{shorten(path)}' is a folder; name the files in it"
    return f"there is no file '{shorten(path, 200)}' (looked in {Path.cwd()} and {base.absolute()})"


def _format_of(sources: list[str]) -> str | None:
    formats = {format_of(file) for file in sources}
    return formats.pop() if len(formats) == 1 else None
