"""What the rules of the workflow need to know of a config: targets, paths, and each rule's slice of settings.

Every slice is one canonical JSON string that holds just what the rule's script uses: Snakemake compares it as
a whole, so an edit of any other key recomputes nothing. Imported at parse time: no torch, no polars.
"""

import json
import math
import os
from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from headatlas.config import check
from headatlas.errors import HeadAtlasError
from headatlas.models.folder import (
    Geometry,
    check_model_folder,
    check_tokenizer,
    is_local,
    read_geometry,
    read_model_config,
    weight_files,
)
from headatlas.tasks.items import read_task
from headatlas.workflow.digests import digests, is_large

METHODS = ("ablation", "attribution", "probe")
FIGURES = ("heatmap-grid", "signed-grid")
POOL_SIZE = 128  # items whose head outputs `baseline: resample` draws from
# Figures of the evidence and the tables each is drawn from, under results/{model}/; `.{method}`: one figure a method.
EVIDENCE_FIGURES = {
    "knock-out": ("evidence/knock-out",),
    "knock-out-accuracy": ("evidence/knock-out",),
    "dissociation.{method}": ("evidence/dissociation", "evidence/dominance"),
    "annotated-grid.{method}": ("importance", "evidence/capability", "evidence/reliability"),
    "task-overlap.{method}": ("evidence/task-overlap",),
    "agreement": ("evidence/agreement", "summary"),
    "layer-profile": ("evidence/layer-profile", "summary"),
}
COMPARISON = ("summary", "evidence/layer-profile", "evidence/dominance")  # of every model, in this order
# The slices of `evidence`, `statistics` and what is common that the rules of the evidence use.
EVIDENCE_SLICES = {
    "reliability": ("tasks", "seed", "items", "halves", "confidence"),
    "summarise": ("tasks", "seed", "items", "confidence"),
    "compare_maps": ("top", "permutations", "seed"),
    "surface_control": ("folds", "confidence", "seed", "matched"),
    "format_control": ("tasks", "seed", "items", "top", "shuffles", "confidence"),
    "knock_out_summary": ("methods", "tasks", "resamples", "permutations", "confidence", "seed"),
    "compare_models": ("tasks", "items", "permutations", "confidence", "seed"),
}
RENDER_ONLY = ("formats", "png_scale")  # keys of `figures` that do not change the spec


def canonical(settings: dict) -> str:
    """One JSON string per meaning: keys sorted, nothing left to chance."""
    return json.dumps(settings, sort_keys=True, ensure_ascii=False)


class Atlas:
    """A checked config and the models it names.

    Args:
        given: the config as Snakemake read it; base: the folder of the Snakefile.

    Raises:
        HeadAtlasError: mistakes in the config, or a model folder that cannot be used.
    """

    def __init__(self, given: dict, base: Path, files: list[str] = ()):
        for file in files:
            check.check_config_file(Path(file))
        self.config = check.load_config(given, base)
        self.models: dict[str, dict] = self.config["models"]
        self.tasks: list[str] = sorted(self.config["tasks"])  # sorted: their order in the config is looks only
        self.methods = [method for method in METHODS if method in self.config["methods"]]
        self.geometry: dict[str, Geometry] = {}
        for name, model in self.models.items():
            self.geometry[name] = read_geometry(model)
            check_model_folder(model, self.geometry[name].n_layers)
            check.check_layers_per_job(self.config["compute"]["layers_per_job"], name, self.geometry[name])

    # --- what runs where -----------------------------------------------------------------------------------

    @cached_property
    def gpus(self) -> int:
        """GPU jobs that may run at once on this machine; 0 where it has no GPU and the CPU sets the limit."""
        wanted = self.config["compute"]["gpus"]
        return count_gpus() if wanted == "auto" else wanted

    def job_gpus(self, model: str, here: bool = True) -> int:
        """GPUs that one job of this model holds.

        All of this machine's where the model is spread over them, and where its one device is named: so no other job
        is on that device. `here` is false where jobs run on other machines; the profile then says how many.
        """
        entry = self.models[model]
        if entry["device"] == "cpu":
            return 0
        alone = entry["device_map"] == "auto" or entry["device"] != "auto"
        return max(1, self.gpus) if alone and here else 1

    def device(self, model: str) -> str:
        """The `--device` of a job that runs this model."""
        return "spread" if self.models[model]["device_map"] == "auto" else self.models[model]["device"]

    def probe_gpus(self, model: str, here: bool = True) -> int:
        """GPUs that this model's probe holds: as `job_gpus`, but that a probe is never spread."""
        return 1 if self.models[model]["device"] == "auto" else self.job_gpus(model, here)

    def memory_mb(self, model: str, attempt: int) -> int:
        """Host memory to ask a cluster for: the weights, as much again as half, and what libraries take."""
        if is_local(self.models[model]["path"]):
            weights = sum(os.path.getsize(file) for file in self.weights(model))
        else:
            weights = estimate_weights(read_model_config(self.models[model]), self.models[model]["dtype"])
        return math.ceil((2000 + 1.5 * weights / 1e6) * attempt)

    def batch_tokens(self, attempt: int) -> int:
        """Positions of one pass of the model; half as many at each retry, should memory have been the reason."""
        return max(1, self.config["compute"]["batch_tokens"] >> (attempt - 1))

    def check_sources(self, planned: Iterable[tuple[str, str]]) -> None:
        """Read the tasks' files and tokenizers, as `prepare_task` will: a mistake stops a run before a job has begun.

        Args:
            planned: (model, task) of the jobs that will read them.

        Raises:
            HeadAtlasError: the mistakes of all tasks, a line each.
        """
        mistakes = {}
        for model, task in sorted(planned):
            try:
                check_tokenizer(self.models[model])
                read_task(json.loads(self.prepare_settings(model, task)), self.config["tasks"][task]["source"])
            except HeadAtlasError as error:
                mistakes[str(error)] = None
        if mistakes:
            raise HeadAtlasError("\n".join(mistakes))

    # --- files ---------------------------------------------------------------------------------------------

    def weights(self, model: str) -> list[str]:
        """Files a job that runs the model depends on; none for a hub model, whose revision is in its settings."""
        return self._files(model, weights=True)

    def tokenizer(self, model: str) -> list[str]:
        """Files that `prepare_task` depends on; none for a hub model."""
        return self._files(model, weights=False)

    def _files(self, model: str, weights: bool) -> list[str]:
        path = self.models[model]["path"]
        if not is_local(path):
            return []
        folder = Path(path)
        if weights:
            return sorted({str(folder / "config.json"), *map(str, weight_files(folder))})
        small = {*folder.glob("*.json"), *folder.glob("*.model"), *folder.glob("*.txt"), *folder.glob("*.jinja")}
        skip = {"config.json", "generation_config.json", "model.safetensors.index.json"}
        return sorted(str(file) for file in small if file.name not in skip)

    def large_digests(self, files: list[str]) -> str:
        """What stands for the content of those input files that Snakemake would compare by their times."""
        return canonical(digests(file for file in files if is_large(file)))

    @property
    def items(self) -> str:
        """Where a task's items are, {model} and {task} open; balanced ones where the config asks for it."""
        folder = "balanced" if self.config["items"]["balance"] else "items"
        return f"results/{{model}}/{folder}/{{task}}.json"

    def blocks(self, model: str) -> list[tuple[int, int]]:
        """(first, last) layer of each ablation job."""
        layers, step = self.geometry[model].n_layers, self._block_size(model)
        return [(first, min(first + step, layers) - 1) for first in range(0, layers, step)]

    def _block_size(self, model: str) -> int:
        return self.config["compute"]["layers_per_job"] or self.geometry[model].n_layers

    def effect_names(self, model: str, methods: list[str] | None = None) -> dict[str, list[str]]:
        """Names of the files, in order of layers, that hold one task's effects by each of the methods (None: all).

        {task} is left open. They stand in results/{model}/effects/{method}/.
        """
        blocks = [f"{{task}}.layers-{first}-{last}.safetensors" for first, last in self.blocks(model)]
        whole = ["{task}.safetensors"]
        return {
            method: blocks if method == "ablation" else whole
            for method in (self.methods if methods is None else methods)
        }

    def effects(self, model: str, method: str, task: str, layer: int) -> str:
        """The effects file that holds a layer."""
        names = self.effect_names(model, [method])[method]
        name = names[min(layer // self._block_size(model), len(names) - 1)]  # methods but ablation have one file
        return f"results/{model}/effects/{method}/{name.format(task=task)}"

    def all_effects(self, model: str, methods: list[str] | None = None) -> list[str]:
        """The effects files of a model by each of the methods (None: all)."""
        return [
            f"results/{model}/effects/{method}/{name.format(task=task)}"
            for method, names in self.effect_names(model, methods).items()
            for task in self.tasks
            for name in names
        ]

    def _layers(self, model: str) -> list[tuple[str, str, int]]:
        layers = range(self.geometry[model].n_layers)
        return [(method, task, layer) for method in self.methods for task in self.tasks for layer in layers]

    def scores(self, model: str) -> list[str]:
        """All score files of a model."""
        return [
            f"results/{model}/scores/{method}/{task}/layer-{layer}.parquet"
            for method, task, layer in self._layers(model)
        ]

    def final_outputs(self) -> list[str]:
        """Everything `snakemake` makes when asked for nothing in particular."""
        of_models = [
            path
            for model in self.models
            for path in (*self._tables(model), *self._figures(model), *self.evidence(model))
        ]
        return of_models + self.comparison()

    @property
    def reported(self) -> str:
        """Which of its images stands for a figure in Snakemake's report: the first that this can show."""
        return next(form for form in ("svg", "png", "pdf", "html") if form in self.formats)

    @property
    def formats(self) -> list[str]:
        """Suffixes of the images of each figure."""
        return self.config["figures"]["formats"]

    def _tables(self, model: str) -> list[str]:
        names = ("importance.parquet", "importance.csv", "evidence/capability.parquet", "provenance.json")
        return [f"results/{model}/{name}" for name in names]

    def evidence(self, model: str) -> list[str]:
        """The evidence of one model; nothing where the config leaves it out."""
        if not self.config["evidence"]["run"]:
            return []
        folder = f"results/{model}/evidence"
        tables = ["reliability", "agreement", "task-overlap", "hottest-heads", "layer-profile", "comparisons"]
        tables += ["knock-out", "knock-out-area", "dissociation", "dominance"] if self.validates else []
        tables += ["surface-control"] if len(self.tasks) > 1 else []
        tables += ["format-control"] if self.controls_format else []
        named = [f"results/{model}/{name}" for name in ("summary.parquet", "findings.md", "findings.html")]
        charts = [f"results/{model}/figures/{chart}" for chart in self.evidence_charts()]
        return named + [f"{folder}/{table}.parquet" for table in tables] + self._drawn(charts)

    def evidence_charts(self) -> list[str]:
        """Names of the figures of the evidence of a model."""
        wanted = [
            name
            for name, tables in EVIDENCE_FIGURES.items()
            if (self.validates or not {"evidence/knock-out", "evidence/dominance"} & set(tables))
            and (len(self.methods) > 1 or name != "agreement")
            and (len(self.tasks) > 1 or not name.startswith(("dissociation", "task-overlap")))
        ]
        return [name.format(method=method) for name in wanted for method in self.methods if "{" in name] + [
            name for name in wanted if "{" not in name
        ]

    def comparison(self) -> list[str]:
        """The tables and figures that set several models side by side; none for one model."""
        if len(self.models) < 2 or not self.config["evidence"]["run"]:
            return []
        tables = [f"results/comparison/{name}.{form}" for name in ("models", "pairs") for form in ("parquet", "csv")]
        return tables + self._drawn([f"results/comparison/figures/comparison.{method}" for method in self.methods])

    def chart_tables(self, chart: str) -> list[str]:
        """Tables that a figure of the evidence is drawn from, {model} open."""
        name, _, method = chart.partition(".")
        tables = EVIDENCE_FIGURES[f"{name}.{{method}}" if method else name]
        return [f"results/{{model}}/{table}.parquet" for table in tables]

    def comparison_tables(self) -> list[str]:
        """Tables of all models that the comparison figure is drawn from, kind by kind."""
        kinds = COMPARISON if self.validates else COMPARISON[:2]
        return [f"results/{model}/{kind}.parquet" for kind in kinds for model in self.models]

    def _drawn(self, charts: list[str]) -> list[str]:
        return [f"{chart}.{form}" for chart in charts for form in ("json", *self.formats)]

    def findings_tables(self) -> dict[str, str]:
        """Inputs of `write_findings` by option, {model} open."""
        folder = "results/{model}/evidence"
        tables = {"summary": "results/{model}/summary.parquet"}
        tables |= {"capability": f"{folder}/capability.parquet"}
        tables |= {"comparisons": f"{folder}/comparisons.parquet", "hottest": f"{folder}/hottest-heads.parquet"}
        tables |= {"profiles": f"{folder}/layer-profile.parquet", "reliability": f"{folder}/reliability.parquet"}
        tables |= {"agreement": f"{folder}/agreement.parquet", "overlap": f"{folder}/task-overlap.parquet"}
        if len(self.tasks) > 1:
            tables["surface"] = f"{folder}/surface-control.parquet"
        if self.controls_format:
            tables["formats"] = f"{folder}/format-control.parquet"
        if self.validates:
            tables |= {"area": f"{folder}/knock-out-area.parquet"}
            tables |= {name: f"{folder}/{name}.parquet" for name in ("dissociation", "dominance")}
        return tables

    @property
    def untrained(self) -> list[str]:
        """The methods whose effects on an item owe nothing to the other items' answers, as a trained probe's do."""
        return [method for method in self.methods if method != "probe"]

    @property
    def controls_format(self) -> bool:
        """Whether there are maps to be made again on items matched in format."""
        return len(self.tasks) > 1 and bool(self.untrained)

    @property
    def validates(self) -> bool:
        """Whether questions are held out on which heads can be knocked out."""
        return self.config["items"]["validate_fraction"] > 0

    @property
    def ablates(self) -> bool:
        """Whether `ablation` is among the methods."""
        return "ablation" in self.methods

    @property
    def knocks_out(self) -> bool:
        """Whether heads are knocked out on held-out questions."""
        return self.config["evidence"]["run"] and self.validates

    @property
    def engine_records(self) -> list[str]:
        """What says which engine computed edited passes, {model} open."""
        ran = {"ablate_layers": self.ablates, "knock_out": self.knocks_out}
        return [f"results/{{model}}/engines/{rule}.json" for rule, runs in ran.items() if runs]

    def engine_inputs(self, model: str, rule: str) -> list[str]:
        """Files whose headers name the engine: ablation's effects, or one knock-out file per method."""
        if rule == "ablate_layers":
            return self.all_effects(model, ["ablation"])
        return [f"results/{model}/evidence/knock-out/{method}/{self.tasks[0]}.safetensors" for method in self.methods]

    def _figures(self, model: str) -> list[str]:
        return self._drawn(
            [f"results/{model}/figures/{figure}.{method}" for figure in FIGURES for method in self.methods]
        )

    # --- settings, one string per rule ---------------------------------------------------------------------

    def prepare_settings(self, model: str, task: str) -> str:
        """`prepare_task`."""
        return canonical(check.task_settings(self.config, model, task, self.geometry[model]))

    def _model(self, model: str) -> dict:
        keys = ("path", "revision", "dtype", "attn_implementation", "trust_remote_code")
        return {key: self.models[model][key] for key in keys}

    def trace_settings(self, model: str) -> str:
        """`trace_task`."""
        return canonical({"model": self._model(model)})

    def pool_settings(self) -> str:
        """`pool_baseline`."""
        return canonical({"tasks": self.tasks, "seed": self.config["seed"], "pool_size": POOL_SIZE})

    def needs_pool(self, method: str) -> bool:
        """Whether a method's baseline comes from all tasks together."""
        return self.config["methods"].get(method, {}).get("baseline") in ("mean", "resample")

    @property
    def integrates(self) -> bool:
        """Whether attribution takes several steps, so that it runs the model again."""
        return self.config["methods"].get("attribution", {}).get("steps", 1) > 1

    def ablation_settings(self, model: str, task: str, first: int, last: int) -> str:
        """`ablate_layers`."""
        chosen = {"model": self._model(model), "task": task, "first_layer": first, "last_layer": last}
        return canonical(chosen | self._replacement("ablation"))

    def attribution_settings(self, model: str, task: str) -> str:
        """`attribute_task` and `integrate_task`."""
        chosen = {"task": task} | self._replacement("attribution")
        if self.integrates:
            chosen |= {"model": self._model(model), "steps": self.config["methods"]["attribution"]["steps"]}
        return canonical(chosen)

    def _replacement(self, method: str) -> dict:
        entry = self.config["methods"][method]
        chosen = {"baseline": entry["baseline"], "positions": entry["positions"]}
        return chosen | ({"seed": self.config["seed"]} if entry["baseline"] == "resample" else {})

    def probe_settings(self) -> str:
        """`fit_probe`."""
        probe = self.config["methods"]["probe"]
        return canonical({"tasks": self.tasks, "seed": self.config["seed"], "probe": probe})

    def score_settings(self, model: str, method: str, task: str, layer: int) -> str:
        """`score_layer`."""
        which = {"model": model, "method": method, "task": task, "layer": layer}
        chosen = {name: self.config["statistics"][name] for name in ("items", "confidence")}
        null = bool(self.config["methods"][method].get("permutations"))  # the effects file holds one
        return canonical(which | chosen | {"null": null})

    def aggregate_settings(self, model: str) -> str:
        """`aggregate`."""
        layers = self.geometry[model].n_layers
        return canonical({"methods": self.methods, "tasks": self.tasks, "layers": layers})

    def evidence_settings(self, *names: str, **others: object) -> str:
        """The named keys of `evidence` and `statistics`, and of methods, tasks, seed, for a rule of the evidence.

        Args:
            others: settings that are no keys of the config, such as `effects`, the names of the files to read.
        """
        common = {"methods": self.methods, "tasks": self.tasks, "seed": self.config["seed"]}
        known = common | self.config["statistics"] | self.config["evidence"]
        return canonical({name: known[name] for name in names} | others)

    def choice_settings(self, model: str, method: str) -> str:
        """`choose_heads`."""
        evidence = {key: self.config["evidence"][key] for key in ("draws", "dissociation_k")}
        common = {"tasks": self.tasks, "seed": self.config["seed"], "items": self.config["statistics"]["items"]}
        return canonical(common | evidence | {"method": method, "effects": self.effect_names(model, [method])})

    def knock_out_settings(self, model: str) -> str:
        """`knock_out`."""
        evidence = {key: self.config["evidence"][key] for key in ("baseline", "positions")}
        return canonical({"model": self._model(model), "tasks": self.tasks} | evidence)

    def engine_settings(self, model: str, rule: str) -> str:
        """`record_engines`."""
        if rule == "ablate_layers":
            return canonical({"effects": self.effect_names(model, ["ablation"])["ablation"], "tasks": self.tasks})
        return canonical({"methods": self.methods})

    def provenance_settings(self, model: str, code: dict[str, str]) -> str:
        """`write_provenance`: all of the config that the numbers depend on, hashes of the user's files, and the code.

        Args:
            code: fingerprint of each rule's script.
        """
        sections = ("seed", "items", "methods", "statistics", "evidence")
        config = {name: self.config[name] for name in sections}
        config |= {"tasks": self.config["tasks"], "chat_template": self.models[model]["chat_template"]}
        sources = {file for task in self.tasks for file in self.config["tasks"][task]["source"]}
        files = digests({*sources, *self.weights(model), *self.tokenizer(model)})
        return canonical({"name": model, "model": self._model(model), "config": config, "files": files, "code": code})

    def findings_settings(self) -> str:
        """`write_findings`: tasks in the order of the figures, those that these leave out last, and their labels."""
        figures, tasks = self.config["figures"], list(self.config["tasks"])
        order = figures["order"] or []
        tasks = [*order, *(task for task in tasks if task not in order)]
        return self.evidence_settings("confidence", tasks=tasks, labels=figures["labels"])

    @property
    def _looks(self) -> dict:
        figures = {key: value for key, value in self.config["figures"].items() if key not in RENDER_ONLY}
        return {"tasks": list(self.config["tasks"]), "figures": figures}  # tasks in the user's order

    def figure_settings(self, model: str, figure: str, method: str) -> str:
        """`draw_figure`."""
        return canonical({"figure": figure, "method": method, "model": model} | self._looks)

    def chart_settings(self, model: str, chart: str) -> str:
        """`draw_evidence`."""
        about = {"model": model, "methods": self.methods, "confidence": self.config["statistics"]["confidence"]}
        return canonical({"figure": chart} | about | self._looks)

    def comparison_settings(self, chart: str) -> str:
        """`draw_comparison`."""
        about = {"models": list(self.models), "methods": self.methods}
        return canonical({"figure": chart, "confidence": self.config["statistics"]["confidence"]} | about | self._looks)

    def pair_settings(self) -> str:
        """`compare_models`."""
        files = {model: self.effect_names(model) for model in self.models}
        return self.evidence_settings(*EVIDENCE_SLICES["compare_models"], models=list(self.models), effects=files)

    def render_settings(self) -> str:
        """`render_figure`."""
        scale = self.config["figures"]["png_scale"] if "png" in self.formats else None
        return canonical({"png_scale": scale})


def rule_settings(atlas: Atlas) -> dict[str, list[str]]:
    """The settings of each rule's jobs of the first model, rules in the order of the work: what an edit can change."""
    model, tasks, methods = next(iter(atlas.models)), atlas.tasks, atlas.methods
    attribute = "integrate_task" if atlas.integrates else "attribute_task"
    found = {
        "prepare_task": [atlas.prepare_settings(model, task) for task in tasks],
        "trace_task": [atlas.trace_settings(model)],
        "pool_baseline": [atlas.pool_settings()],
        attribute: [atlas.attribution_settings(model, task) for task in tasks],
        "fit_probe": [atlas.probe_settings()],
        "ablate_layers": [
            atlas.ablation_settings(model, task, *block) for task in tasks for block in atlas.blocks(model)
        ],
        "score_layer": [atlas.score_settings(model, method, tasks[0], 0) for method in methods],
        "aggregate": [atlas.aggregate_settings(model)],
    }
    found |= {rule: [atlas.evidence_settings(*names)] for rule, names in EVIDENCE_SLICES.items()}
    found |= {
        "write_findings": [atlas.findings_settings()],
        "choose_heads": [atlas.choice_settings(model, method) for method in methods],
        "knock_out": [atlas.knock_out_settings(model)],
        "draw_figure": [atlas.figure_settings(model, "heatmap-grid", method) for method in methods],
        "draw_evidence": [atlas.chart_settings(model, "layer-profile")],
        "draw_comparison": [atlas.comparison_settings("comparison.ablation")],
        "render_figure": [atlas.render_settings()],
    }
    return found


def count_gpus(devices: str = "/dev") -> int:
    """NVIDIA GPUs of this machine that this process may use, without asking torch."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None:  # CUDA shows those before the first that is not there
        return len(list(takewhile(lambda name: name not in ("", "-1"), map(str.strip, shown.split(",")))))
    return len([name for name in os.listdir(devices) if name.startswith("nvidia") and name[6:].isdigit()])


def estimate_weights(config: dict, dtype: str) -> int:
    """Bytes of a dense decoder's weights by its config.json, some 10% too many; 32 GB where it is silent."""
    text = config.get("text_config") or config
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size")
    if not all(isinstance(text.get(name), int) for name in names):
        return 32_000_000_000
    vocabulary, hidden, layers, between = (text[name] for name in names)
    parameters = 2 * vocabulary * hidden + layers * (4 * hidden**2 + 3 * hidden * between)
    return parameters * (4 if dtype == "float32" else 2)
