"""Paths under results/ of the files between task and table: items, effects, scores, records of engines.

Knows paths only. Imported at parse time.
"""

from headatlas.workflow.atlas import Atlas

METHOD_OF_RULE = {"ablate_layers": "ablation", "fit_gates": "gates"}  # rules that run a checked engine for a method


class Files:
    """Paths of a config's intermediate files, from the working directory."""

    def __init__(self, atlas: Atlas):
        self.atlas = atlas

    @property
    def items(self) -> str:
        """A task's items, with {model} and {task} as placeholders; balanced ones if the config asks for them."""
        folder = "balanced" if self.atlas.config["items"]["balance"] else "items"
        return f"results/{{model}}/{folder}/{{task}}.json"

    def questions(self, model: str, task: str) -> str:
        """A task's items as prepared, with the answers of its files, whether or not the model writes its own."""
        folder = "questions" if task in self.atlas.generated else "items"
        return f"results/{model}/{folder}/{task}.json"

    def answers(self, model: str) -> list[str]:
        """What a model wrote itself, judged, in the order of these tasks."""
        return [f"results/{model}/answers/{task}.json" for task in self.atlas.generated]

    def all_items(self) -> list[str]:
        """The items of all models and tasks, model by model."""
        atlas = self.atlas
        return [self.items.format(model=model, task=task) for model in atlas.models for task in atlas.tasks]

    def blocks(self, model: str) -> list[tuple[int, int]]:
        """(first, last) layer of each ablation job."""
        layers, step = self.atlas.geometry[model].n_layers, self._block_size(model)
        return [(first, min(first + step, layers) - 1) for first in range(0, layers, step)]

    def _block_size(self, model: str) -> int:
        return self.atlas.config["compute"]["layers_per_job"] or self.atlas.geometry[model].n_layers

    def effect_names(self, model: str, methods: list[str] | None = None) -> dict[str, list[str]]:
        """Names of the files, in order of layers, with one task's effects by each of the methods (None: all).

        {task} is a placeholder. The files are in results/{model}/effects/{method}/.
        """
        blocks = [f"{{task}}.layers-{first}-{last}.safetensors" for first, last in self.blocks(model)]
        chosen = self.atlas.methods if methods is None else methods
        return {method: blocks if method == "ablation" else ["{task}.safetensors"] for method in chosen}

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
            for task in self.atlas.tasks
            for name in names
        ]

    def scores(self, model: str) -> list[str]:
        """All score files of a model."""
        return [
            f"results/{model}/scores/{method}/{task}/layer-{layer}.parquet"
            for method in self.atlas.methods
            for task in self.atlas.tasks
            for layer in range(self.atlas.geometry[model].n_layers)
        ]

    def groups(self, model: str) -> list[str]:
        """The effects files of a model's groups of heads, in the order of the tasks."""
        return [f"results/{model}/evidence/head-groups/{task}.safetensors" for task in self.atlas.tasks]

    def engine_records(self, model: str) -> list[str]:
        """The records of the engines that computed a model's edited passes."""
        ran = {rule: method in self.atlas.methods for rule, method in METHOD_OF_RULE.items()}
        ran |= {"knock_out": self.atlas.knocks_out, "patch_answers": self.atlas.controls_answer}
        ran |= {"ablate_groups": self.atlas.groups_heads(model)}
        return [f"results/{model}/engines/{rule}.json" for rule, runs in ran.items() if runs]

    def engine_inputs(self, model: str, rule: str) -> list[str]:
        """Files whose headers name the engine: effects of heads or groups, one knock-out file per ranking, patches."""
        if rule in METHOD_OF_RULE:
            return self.all_effects(model, [METHOD_OF_RULE[rule]])
        if rule == "ablate_groups":
            return self.groups(model)
        if rule == "patch_answers":
            return [f"results/{model}/evidence/same-answer/patches.safetensors"]
        folder, task = f"results/{model}/evidence/knock-out", self.atlas.tasks[0]
        return [f"{folder}/{ranking}/{task}.safetensors" for ranking in self.atlas.rankings]
