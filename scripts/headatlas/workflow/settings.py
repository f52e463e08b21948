"""The settings of each rule's script in one table, and their canonical string.

Snakemake compares a job's settings as one string. It holds only what the script uses, so editing any other key
recomputes nothing; the column "an edit recomputes" of config/README.md is made from the same table. Imported at parse
time: no torch, no polars.
"""

import hashlib
import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from headatlas.config.check import longest_item
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.compared import Other, compared_with
from headatlas.workflow.files import METHOD_OF_RULE, Files

POOL_SIZE = 128  # number of items from whose head outputs `baseline: resample` draws
RENDER_ONLY = ("formats", "png_scale")  # keys of `figures` that do not change the spec
LEFT_OUT = object()  # marks a setting that a job does not have


@dataclass(frozen=True)
class Job:
    """A job of a rule: the config, and the job's wildcards."""

    atlas: Atlas
    wildcards: Mapping[str, str | int]

    @property
    def model(self) -> dict:
        """The config's entry of the job's model."""
        return self.atlas.models[self.wildcards["model"]]


Source = str | Callable[[Job], object]


# --- settings that are not simply a key of the config -------------------------------------------------------------


def _loaded_model(job: Job) -> dict:
    keys = ("path", "revision", "dtype", "attn_implementation", "trust_remote_code")
    return {key: job.model[key] for key in keys}


def _tokenizer(job: Job) -> dict:
    return {key: job.model[key] for key in ("path", "revision", "chat_template", "trust_remote_code")}


def _join(job: Job) -> str | None:
    """None if a chat template separates prompt and answer."""
    return None if job.model["chat_template"] else job.atlas.config["tasks"][job.wildcards["task"]]["join"]


def _longest_item(job: Job) -> int | None:
    return longest_item(job.atlas.config, job.atlas.geometry[job.wildcards["model"]])


def _checks(job: Job) -> dict[str, str]:
    """When an answer that the model wrote is right, by task."""
    return {task: job.atlas.config["tasks"][task]["check"] for task in job.atlas.tasks}


def _generated(job: Job) -> object:
    """The tasks whose answers the model writes itself, with the check of each."""
    return {task: _checks(job)[task] for task in job.atlas.generated} or LEFT_OUT


def _partners(job: Job) -> object:
    """The texts that every item must have besides prompt and answer."""
    return job.atlas.partners or LEFT_OUT


def _resampling_seed(method: str) -> Source:
    def seed(job: Job) -> object:
        resamples = job.atlas.config["methods"][method]["baseline"] == "resample"
        return job.atlas.config["seed"] if resamples else LEFT_OUT

    return seed


def _seed_of_points(job: Job) -> object:
    """The seed where points of the path are drawn, or baselines."""
    drawn = job.atlas.config["methods"]["attribution"]["path"] == "expected"
    return job.atlas.config["seed"] if drawn else _resampling_seed("attribution")(job)


def _adaptive(job: Job) -> object:
    """The bound that heads must be able to reach for more items, and the seed of the order of questions."""
    if not job.atlas.adapts:
        return LEFT_OUT
    ablation = job.atlas.config["methods"]["ablation"]
    bound = {key: ablation[key] for key in ("top", "smallest_effect") if ablation[key] is not None}
    return {"bound": bound, "seed": job.atlas.config["seed"]}


def _has_null(job: Job) -> bool:
    """Whether the effects file holds a null for p-values."""
    return bool(job.atlas.config["methods"][job.wildcards["method"]].get("permutations"))


def _layers(job: Job) -> int:
    return job.atlas.geometry[job.wildcards["model"]].n_layers


def _all_effects(job: Job) -> dict:
    return Files(job.atlas).effect_names(job.wildcards["model"])


def _matchable_effects(job: Job) -> dict:
    return Files(job.atlas).effect_names(job.wildcards["model"], job.atlas.matchable)


def _own_effects(job: Job) -> dict:
    return Files(job.atlas).effect_names(job.wildcards["model"], [job.wildcards["method"]])


def _effects_of_models(job: Job) -> dict:
    return {model: Files(job.atlas).effect_names(model) for model in job.atlas.models}


def _only_of(rules: Container[str], source: Callable[[Job], object]) -> Source:
    """A setting of `record_engines` for the records of these rules."""
    return lambda job: source(job) if job.wildcards["rule"] in rules else LEFT_OUT


def _effects_of_ablation(job: Job) -> dict:
    return Files(job.atlas).effect_names(job.wildcards["model"], ["ablation"])


def _ablation_effects(job: Job) -> list[str]:
    return _effects_of_ablation(job)["ablation"]


def _effects_of_rule(job: Job) -> object:
    """Names of the effects files whose headers `record_engines` reads for a rule."""
    method = METHOD_OF_RULE.get(job.wildcards["rule"])
    return Files(job.atlas).effect_names(job.wildcards["model"], [method]) if method else LEFT_OUT


def _groups(job: Job) -> int:
    return job.atlas.geometry[job.wildcards["model"]].n_groups


def _compared(part: Callable[[Job, Other], object]) -> Source:
    """Something of the run that a model's heads are compared with."""

    def found(job: Job) -> object:
        other = compared_with(job.atlas, job.wildcards["model"])
        return LEFT_OUT if other is None else part(job, other)

    return found


def _effects_beside(job: Job, other: Other) -> dict:
    return Files(job.atlas).effect_names(job.wildcards["model"], list(other.effects))


def _given_order(job: Job) -> list[str]:
    return list(job.atlas.config["tasks"])


def _drawn_order(job: Job) -> list[str]:
    """Tasks in the order of the figures, followed by those that the figures omit."""
    order = job.atlas.config["figures"]["order"] or []
    return [*order, *(task for task in _given_order(job) if task not in order)]


def _looks(job: Job) -> dict:
    return {key: value for key, value in job.atlas.config["figures"].items() if key not in RENDER_ONLY}


# Keys of `figures` that the page follows, too.
PAGE_LOOKS = (
    "columns", "labels", "scheme", "signed_scheme", "scale", "legend_title", "signed_legend_title", "q_threshold",
)  # fmt: skip


def _page_looks(job: Job) -> dict:
    return {key: job.atlas.config["figures"][key] for key in PAGE_LOOKS}


def _method_settings(job: Job) -> dict:
    return {method: job.atlas.config["methods"][method] for method in job.atlas.methods}


def _png_scale(job: Job) -> float | None:
    figures = job.atlas.config["figures"]
    return figures["png_scale"] if "png" in figures["formats"] else None


def _behind_the_numbers(job: Job) -> dict:
    """The part of the config that numbers can depend on."""
    sections = ("seed", "metric", "items", "generation", "methods", "statistics", "evidence", "tasks")
    return {name: job.atlas.config[name] for name in sections} | {"chat_template": job.model["chat_template"]}


# --- the table -------------------------------------------------------------------------------------------------------


def row(*keys: str, **others: Source) -> dict[str, Source]:
    """Settings by name: config keys and wildcards by the last part of their path, others by keyword."""
    return {key.rpartition(".")[2].strip("{}?"): key for key in keys} | others


# An entry is the path of a config key, possibly with {wildcards}; a single wildcard; a section with the user's own
# names (models, tasks, methods), which stands for these names in the order of the tables; or a function. A key that
# ends in ? is left out if the config lacks it.
TABLE: dict[str, dict[str, Source]] = {
    "prepare_task": row(
        "{task}", "tasks.{task}.format", "tasks.{task}.max_items", "tasks.{task}.skill?", "tasks.{task}.context?",
        "seed", "items.validate_fraction", join=_join, max_tokens=_longest_item, tokenizer=_tokenizer,
        partners=_partners,
    ),
    "generate_answers": row(
        "generation.max_tokens", "generation.stop", longest=_longest_item, model=_loaded_model, tokenizer=_tokenizer
    ),
    "take_answers": row("tasks.{task}.check"),
    "trace_task": row(model=_loaded_model),
    "pool_baseline": row("tasks", "seed", pool_size=lambda job: POOL_SIZE),
    "attribute_task": row(
        "{task}", "methods.attribution.baseline", "methods.attribution.positions", seed=_resampling_seed("attribution")
    ),
    "integrate_task": row(
        "{task}", "methods.attribution.baseline", "methods.attribution.positions", "methods.attribution.steps",
        "methods.attribution.path", "methods.attribution.rule", model=_loaded_model, seed=_seed_of_points,
    ),
    "fit_gates": row("{task}", "seed", "statistics.items", "methods.gates", model=_loaded_model),
    "fit_probe": row("tasks", "seed", "methods.probe"),
    "ablate_layers": row(
        "{task}", "methods.ablation.baseline", "methods.ablation.positions",
        model=_loaded_model, seed=_resampling_seed("ablation"), first_layer="{first}", last_layer="{last}",
        adaptive=_adaptive,
    ),
    "score_layer": row(
        "{model}", "{method}", "{task}", "{layer}", "statistics.items", "statistics.confidence", null=_has_null
    ),
    "aggregate": row("methods", "tasks", layers=_layers),
    "measure_capability": row("tasks", "statistics.confidence", "metric", generated=_generated),
    "reliability": row(
        "tasks", "seed", "statistics.items", "evidence.halves", "statistics.confidence", effects=_all_effects
    ),
    "summarise": row("tasks", "seed", "statistics.items", "statistics.confidence", effects=_all_effects),
    "compare_maps": row("evidence.top", "statistics.permutations", "seed"),
    "surface_control": row("evidence.folds", "evidence.matched", "statistics.confidence", "seed"),
    "format_control": row(
        "tasks", "seed", "statistics.items", "statistics.confidence", "evidence.top", "evidence.shuffles",
        effects=_matchable_effects,
    ),
    "knock_out_summary": row(
        "methods", "tasks", "statistics.resamples", "statistics.permutations", "statistics.confidence", "seed"
    ),
    "sufficiency_summary": row(
        "tasks", "evidence.baseline", "statistics.confidence", "seed", rankings=lambda job: job.atlas.rankings
    ),
    "compare_models": row(
        "models", "tasks", "statistics.items", "statistics.permutations", "statistics.confidence", "seed",
        effects=_effects_of_models,
    ),
    "write_findings": row("statistics.confidence", "figures.labels", tasks=_drawn_order),
    "choose_heads": row(
        "{method}", "tasks", "seed", "statistics.items", "evidence.draws", "evidence.dissociation_k",
        "evidence.sufficiency", effects=_own_effects,
    ),
    "rank_at_random": row("tasks", "seed", "evidence.rankings"),
    "choose_hottest": row("tasks", "statistics.items", "evidence.top", effects=_effects_of_ablation),
    "patch_answers": row("tasks", model=_loaded_model),
    "answer_control": row("statistics.confidence"),
    "ablate_groups": row(
        "{task}", "methods.ablation.baseline", "methods.ablation.positions",
        model=_loaded_model, groups=_groups, seed=_resampling_seed("ablation"),
    ),
    "classify_heads": row("tasks"),
    "head_groups": row("tasks", "statistics.items", "statistics.confidence", effects=_ablation_effects),
    "compare_heads": row(
        "statistics.items", "statistics.confidence", "evidence.top",
        tasks=_compared(lambda job, other: list(other.items)),
        compared_to=_compared(lambda job, other: job.model["compare_to"]),
        effects=_compared(_effects_beside),
        other_effects=_compared(lambda job, other: other.effects),
    ),
    "describe_heads": row("tasks", "seed", model=_loaded_model, tokenizer=_tokenizer),
    "head_roles": row(
        "tasks", "seed", "statistics.items", "statistics.confidence", "evidence.top",
        name="{model}", effects=_all_effects,
    ),
    "knock_out": row("tasks", "evidence.baseline", "evidence.positions", model=_loaded_model),
    "export_heads": row("tasks", "export.heads", "export.method", "export.top", "export.faithfulness"),
    "generate_without_heads": row(
        "tasks", "evidence.baseline", "evidence.positions", "generation.max_tokens", "generation.stop",
        longest=_longest_item, model=_loaded_model, tokenizer=_tokenizer,
    ),
    "generated_accuracy": row("methods", "tasks", "statistics.confidence", checks=_checks),
    "draw_figure": row("{figure}", "{method}", "{model}", "metric", tasks=_given_order, figures=_looks),
    "draw_evidence": row(
        "{model}", "methods", "statistics.confidence", "metric", figure="{chart}", tasks=_given_order, figures=_looks
    ),
    "draw_comparison": row(
        "models", "methods", "statistics.confidence", "metric", figure="{chart}", tasks=_given_order, figures=_looks
    ),
    "render_figure": row(png_scale=_png_scale),
    "attend_items": row(model=_loaded_model, tokenizer=_tokenizer, shown="page.items"),
    "write_page_data": row(
        "{model}", "tasks", "metric", "statistics.confidence", "statistics.items", "page.examples",
        methods=_method_settings, effects=_all_effects, groups=_groups, shown="page.items",
    ),
    "write_page": row(tasks=_drawn_order, looks=_page_looks),
    "record_engines": row(
        "{rule}",
        effects=_effects_of_rule,
        tasks=_only_of((*METHOD_OF_RULE, "ablate_groups"), lambda job: job.atlas.tasks),
        methods=_only_of(("knock_out",), lambda job: job.atlas.rankings),
    ),
    "write_provenance": row(name="{model}", model=_loaded_model, config=_behind_the_numbers),
}  # fmt: skip
NUMBERS = ("first", "last", "layer")  # wildcards that are whole numbers


def settings_of(atlas: Atlas, rule: str, wildcards: Mapping[str, str] = {}, **others: object) -> str:
    """The settings of one job of a rule: its row of `TABLE`, cut from the config.

    Args:
        others: settings that do not come from the config.
    """
    given = {name: int(value) if name in NUMBERS else value for name, value in wildcards.items()}
    job = Job(atlas, given)
    found = {name: _value(job, source) for name, source in TABLE[rule].items()}
    return canonical({name: value for name, value in found.items() if value is not LEFT_OUT} | others)


def origin(atlas: Atlas, model: str) -> dict:
    """What an exported map was made from: model, metric, method, baseline, and a hash of the config behind it."""
    config, method = atlas.config, atlas.config["export"]["method"]
    job, how = Job(atlas, {"model": model}), config["methods"][method]
    loaded = _loaded_model(job) | {"chat_template": job.model["chat_template"]}
    behind = {key: config[key] for key in ("seed", "metric", "items")} | {"model": loaded, "method": how}
    behind |= {"tasks": {task: _behind_answers(atlas, task) for task in atlas.tasks}}
    behind |= {"statistics": {key: config["statistics"][key] for key in ("items", "confidence")}}
    return {
        "model": {"name": model} | {key: loaded[key] for key in ("path", "revision", "dtype", "chat_template")},
        "metric": config["metric"],
        "method": method,
        "baseline": {"kind": how["baseline"], "positions": how["positions"]} if "baseline" in how else None,
        "config": hashlib.sha256(canonical(behind).encode()).hexdigest(),
    }


def _behind_answers(atlas: Atlas, task: str) -> dict:
    """What a task's answers depend on; how they are written and judged only if the model writes them."""
    keys = atlas.config["tasks"][task]
    if task in atlas.generated:
        return keys | {"generation": atlas.config["generation"]}
    return {key: value for key, value in keys.items() if key != "check"}


def canonical(settings: dict) -> str:
    """Canonical JSON: equal settings give equal strings."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


def _value(job: Job, source: Source) -> object:
    if not isinstance(source, str):
        return source(job)
    names = {"models": list(job.atlas.models), "tasks": job.atlas.tasks, "methods": job.atlas.methods}
    if source in names:
        return names[source]
    first, *steps = source.rstrip("?").split(".")
    if first.startswith("{"):
        return job.wildcards[first.strip("{}")]
    value = job.atlas.config[first]
    for step in steps:
        name = job.wildcards[step.strip("{}")] if step.startswith("{") else step
        if name not in value and source.endswith("?"):
            return LEFT_OUT
        value = value[name]
    return value


def of_every_rule(atlas: Atlas) -> dict[str, list[str]]:
    """The settings of each rule's jobs for the first model, with rules in order of execution.

    Excludes `write_provenance`, which records every edit.
    """
    model = next(iter(atlas.models))
    first, last = Files(atlas).blocks(model)[0]
    one = {"model": model, "first": first, "last": last, "layer": 0, "figure": "heatmap-grid", "chart": "layer-profile"}
    several = [
        one | {"task": task, "method": method, "rule": rule}
        for task in atlas.tasks
        for method in atlas.methods
        for rule in ("ablate_layers", "knock_out")
    ]
    left_out = {"write_provenance", "attribute_task" if atlas.integrates else "integrate_task"}
    left_out |= set() if "gates" in atlas.methods else {"fit_gates"}
    return {
        rule: list(dict.fromkeys(settings_of(atlas, rule, wildcards) for wildcards in several))
        for rule in TABLE
        if rule not in left_out
    }
