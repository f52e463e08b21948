"""What a config requests: its models, tasks and methods, and the parts of the work they need.

Imported at parse time: no torch, no polars.
"""

from pathlib import Path

from headatlas.config import check
from headatlas.config.schema import load_schema
from headatlas.models.folder import Geometry, check_model_folder, read_geometry

RANDOM = "random"  # stands for a method in paths of knock-outs; see `headatlas.files.knock_outs`
METHODS = tuple(load_schema()["properties"]["methods"]["properties"])  # in the order of all tables
LEARNED = ("probe", "gates")


class Atlas:
    """A checked config and the models it names.

    Args:
        given: the config as Snakemake read it; base: the folder of this repository; files: the config files.

    Raises:
        HeadAtlasError: mistakes in the config, or a model folder that cannot be used.
    """

    def __init__(self, given: dict, base: Path, files: list[str] = ()):
        for file in files:
            check.check_config_file(Path(file))
        self.config = check.load_config(given, base)
        self.models: dict[str, dict] = self.config["models"]
        self.tasks: list[str] = sorted(self.config["tasks"])  # sorted: the config's order only affects appearance
        self.methods = [method for method in METHODS if method in self.config["methods"]]
        self.geometry: dict[str, Geometry] = {}
        for name, model in self.models.items():
            self.geometry[name] = read_geometry(model)
            check_model_folder(model, self.geometry[name].n_layers)
            check.check_layers_per_job(self.config["compute"]["layers_per_job"], name, self.geometry[name])

    @property
    def ablates(self) -> bool:
        """Whether `ablation` is among the methods."""
        return "ablation" in self.methods

    @property
    def integrates(self) -> bool:
        """Whether attribution takes several steps and therefore runs the model again."""
        return self.config["methods"].get("attribution", {}).get("steps", 1) > 1

    def needs_pool(self, method: str) -> bool:
        """Whether a method's baseline comes from all tasks together."""
        return self.config["methods"].get(method, {}).get("baseline") in ("mean", "resample")

    @property
    def pools(self) -> bool:
        """Whether anything needs what heads output on average over all tasks."""
        return self.knocks_out or self.exports or any(map(self.needs_pool, self.methods))

    @property
    def exports(self) -> bool:
        """Whether lists of heads are written for other programs."""
        return self.config["export"]["heads"] != "none"

    @property
    def patches(self) -> bool:
        """Whether any heads take their output from the counterfactual prompts."""
        sections = [*(self.config["methods"][method] for method in self.methods)]
        sections += [self.config["evidence"]] if self.knocks_out else []
        return self.controls_answer or any(section.get("baseline") == "counterfactual" for section in sections)

    @property
    def controls_answer(self) -> bool:
        """Whether heads are also patched from another question with the same answer."""
        return self.knocks_out and self.ablates and self.config["evidence"]["same_answer"]

    def groups_heads(self, model: str) -> bool:
        """Whether the query heads that share a key-value head are ablated together, too."""
        shares = self.geometry[model].n_groups < self.geometry[model].n_heads
        return self.tells_evidence and self.ablates and self.config["evidence"]["groups"] and shares

    @property
    def partners(self) -> list[str]:
        """The texts besides prompt and answer that the settings require for every item."""
        wanted = {
            "foil": self.config["metric"] == "margin",
            "counterfactual": self.patches,
            "same_answer": self.controls_answer,
        }
        return [text for text, needed in wanted.items() if needed]

    @property
    def adapts(self) -> bool:
        """Whether ablation measures heads on different items."""
        return self.ablates and self.config["methods"]["ablation"]["items"] == "adaptive"

    @property
    def matchable(self) -> list[str]:
        """The methods whose maps can be recomputed from part of the items.

        What is learned depends on all of them, and adaptive ablation measures heads on different items.
        """
        left_out = {*LEARNED} | ({"ablation"} if self.adapts else set())
        return [method for method in self.methods if method not in left_out]

    @property
    def tells_evidence(self) -> bool:
        """Whether the evidence for the maps is wanted."""
        return self.config["evidence"]["run"]

    @property
    def validates(self) -> bool:
        """Whether questions are held out for knock-outs."""
        return self.config["items"]["validate_fraction"] > 0

    @property
    def knocks_out(self) -> bool:
        """Whether heads are knocked out on held-out questions."""
        return self.tells_evidence and self.validates

    @property
    def keeps_heads(self) -> bool:
        """Whether the top heads of every ranking are also kept alone."""
        return self.knocks_out and self.config["evidence"]["sufficiency"]

    @property
    def rankings(self) -> list[str]:
        """The methods, and random rankings where they are compared with them."""
        return [*self.methods, *([RANDOM] if self.keeps_heads else [])]

    @property
    def compares_tasks(self) -> bool:
        """Whether there are two tasks to compare."""
        return len(self.tasks) > 1

    @property
    def controls_format(self) -> bool:
        """Whether maps are recomputed on items matched in format."""
        return self.compares_tasks and bool(self.matchable)

    def compares_heads(self, model: str) -> bool:
        """Whether the model's heads are compared one by one with those of another run."""
        return self.tells_evidence and self.models[model]["compare_to"] is not None

    @property
    def compares_models(self) -> bool:
        """Whether several models are compared."""
        return self.tells_evidence and len(self.models) > 1
