"""The targets of a run: the tables, figures and findings that `rule all` requests, and the tables behind them.

Knows paths only. Imported at parse time. A new figure of the evidence needs a line in `FIGURES` here and its function
in `headatlas.charts.registry`.
"""

from headatlas.workflow.atlas import Atlas
from headatlas.workflow.compared import compared_with

MAPS = ("heatmap-grid", "signed-grid")
# Figures of the evidence and the tables each is drawn from, under results/{model}/; `.{method}`: one figure a method.
FIGURES = {
    "knock-out": ("evidence/knock-out",),
    "knock-out-accuracy": ("evidence/knock-out",),
    "sufficiency": ("evidence/sufficiency", "evidence/cpr"),
    "sufficiency-linear": ("evidence/sufficiency", "evidence/cpr"),
    "dissociation.{method}": ("evidence/dissociation", "evidence/dominance"),
    "annotated-grid.{method}": ("importance", "evidence/capability", "evidence/reliability"),
    "task-overlap.{method}": ("evidence/task-overlap",),
    "agreement": ("evidence/agreement", "summary"),
    "layer-profile": ("evidence/layer-profile", "summary"),
    "same-answer": ("evidence/same-answer",),
    "head-groups": ("evidence/head-groups",),
    "changes.{method}": ("evidence/head-changes",),
    "roles": ("heads", "evidence/head-roles"),
}
COMPARISON = ("summary", "evidence/layer-profile", "evidence/dominance")  # of every model, in this order
KNOCK_OUTS = ("knock-out", "knock-out-area", "dissociation", "dominance")
SUFFICIENCY = ("sufficiency", "cpr", "ranking-tests")


class Targets:
    """Paths of a run's final outputs, relative to the working directory."""

    def __init__(self, atlas: Atlas):
        self.atlas = atlas

    def all(self) -> list[str]:
        """Everything that `snakemake` makes by default."""
        of_models = [
            path
            for model in self.atlas.models
            for of_model in (self._tables, self._maps, self._evidence, self._exported, self._page)
            for path in of_model(model)
        ]
        return of_models + self._comparison()

    @property
    def formats(self) -> list[str]:
        """Suffixes of the images of each figure."""
        return self.atlas.config["figures"]["formats"]

    @property
    def reported(self) -> str:
        """The image format of a figure in Snakemake's report: the first that the report can show."""
        return next(form for form in ("svg", "png", "pdf", "html") if form in self.formats)

    def _tables(self, model: str) -> list[str]:
        names = ("importance.parquet", "importance.csv", "evidence/capability.parquet", "provenance.json")
        return [f"results/{model}/{name}" for name in names]

    def _maps(self, model: str) -> list[str]:
        return self._drawn(
            [f"results/{model}/figures/{figure}.{method}" for figure in MAPS for method in self.atlas.methods]
        )

    def _evidence(self, model: str) -> list[str]:
        if not self.atlas.tells_evidence:
            return []
        tables = ["reliability", "agreement", "task-overlap", "hottest-heads", "layer-profile", "comparisons"]
        tables += KNOCK_OUTS if self.atlas.validates else []
        tables += SUFFICIENCY if self.atlas.keeps_heads else []
        tables += ["surface-control"] if self.atlas.compares_tasks else []
        tables += ["format-control"] if self.atlas.controls_format else []
        tables += ["same-answer"] if self.atlas.controls_answer else []
        tables += ["head-groups"] if self.atlas.groups_heads(model) else []
        tables += ["head-changes", "map-changes"] if self.atlas.compares_heads(model) else []
        tables += ["head-roles", "role-overlap"] if self.atlas.describes_heads else []
        tables += ["generated"] if self.atlas.writes_without_heads else []
        tables += ["head-classes"] if self.atlas.classifies_heads else []
        named = [f"results/{model}/{name}" for name in ("summary.parquet", "findings.md", "findings.html")]
        named += [f"results/{model}/heads.parquet"] if self.atlas.describes_heads else []
        charts = [f"results/{model}/figures/{chart}" for chart in self.charts(model)]
        return named + [f"results/{model}/evidence/{table}.parquet" for table in tables] + self._drawn(charts)

    def _exported(self, model: str) -> list[str]:
        """Lists of heads for other programs."""
        return [f"results/{model}/heads/{task}.json" for task in self.atlas.tasks if self.atlas.exports]

    def _page(self, model: str) -> list[str]:
        if not self.atlas.makes_page:
            return []
        return [f"results/{model}/page/{name}" for name in ("data", "index.html")]

    def page_tables(self, model: str) -> dict[str, str]:
        """Tables on the page of a model besides those of the maps, by option of `write_page_data`."""
        tables = {"answers": "evidence/same-answer"} if self.atlas.controls_answer else {}
        tables |= {"group-effects": "evidence/head-groups"} if self.atlas.groups_heads(model) else {}
        tables |= {"described": "heads", "roles": "evidence/head-roles"} if self.atlas.describes_heads else {}
        tables |= {"changes": "evidence/head-changes"} if self.atlas.compares_heads(model) else {}
        return {option: f"results/{model}/{table}.parquet" for option, table in tables.items()}

    def charts(self, model: str) -> list[str]:
        """Names of the figures of the evidence of a model."""
        wanted = [name for name, tables in FIGURES.items() if self._can_draw(model, name, tables)]
        named = [(name, method) for name in wanted if "{" in name for method in self._methods(model, name)]
        of_methods = [name.format(method=method) for name, method in named]
        return of_methods + [name for name in wanted if "{" not in name]

    def all_charts(self) -> list[str]:
        """Names of the figures of the evidence of any model."""
        return list(dict.fromkeys(chart for model in self.atlas.models for chart in self.charts(model)))

    def _can_draw(self, model: str, name: str, tables: tuple[str, ...]) -> bool:
        held_out = bool({f"evidence/{table}" for table in KNOCK_OUTS} & {*tables})
        of_tasks = name.startswith(("dissociation", "task-overlap"))
        return (
            (self.atlas.validates or not held_out)
            and (self.atlas.compares_tasks or not of_tasks)
            and (len(self.atlas.methods) > 1 or name != "agreement")
            and (self.atlas.controls_answer or name != "same-answer")
            and (self.atlas.groups_heads(model) or name != "head-groups")
            and (self.atlas.compares_heads(model) or not name.startswith("changes"))
            and (self.atlas.describes_heads or name != "roles")
            and (self.atlas.keeps_heads or not name.startswith("sufficiency"))
        )

    def _methods(self, model: str, name: str) -> list[str]:
        """The methods with a figure of this name."""
        if name.startswith("changes") and (other := compared_with(self.atlas, model)):
            return list(other.effects)
        return self.atlas.methods

    def _comparison(self) -> list[str]:
        """The tables and figures that compare several models."""
        if not self.atlas.compares_models:
            return []
        tables = [f"results/comparison/{name}.{form}" for name in ("models", "pairs") for form in ("parquet", "csv")]
        methods = self.atlas.methods
        return tables + self._drawn([f"results/comparison/figures/comparison.{method}" for method in methods])

    def _drawn(self, charts: list[str]) -> list[str]:
        return [f"{chart}.{form}" for chart in charts for form in ("json", *self.formats)]

    def chart_tables(self, chart: str) -> list[str]:
        """Tables behind a figure of the evidence, with {model} as a placeholder."""
        name, _, method = chart.partition(".")
        tables = FIGURES[f"{name}.{{method}}" if method else name]
        return [f"results/{{model}}/{table}.parquet" for table in tables]

    def comparison_tables(self) -> list[str]:
        """Tables of all models behind the comparison figure, kind by kind."""
        kinds = COMPARISON if self.atlas.validates else COMPARISON[:2]
        return [f"results/{model}/{kind}.parquet" for kind in kinds for model in self.atlas.models]

    def findings_tables(self, model: str) -> dict[str, str]:
        """Inputs of `write_findings` by option."""
        tables = {"capability": "capability", "comparisons": "comparisons", "hottest": "hottest-heads"}
        tables |= {"profiles": "layer-profile", "reliability": "reliability"}
        tables |= {"agreement": "agreement", "overlap": "task-overlap"}
        tables |= {"surface": "surface-control"} if self.atlas.compares_tasks else {}
        tables |= {"formats": "format-control"} if self.atlas.controls_format else {}
        tables |= {"answers": "same-answer"} if self.atlas.controls_answer else {}
        tables |= {"groups": "head-groups"} if self.atlas.groups_heads(model) else {}
        tables |= {"changes": "map-changes"} if self.atlas.compares_heads(model) else {}
        tables |= {"roles": "role-overlap"} if self.atlas.describes_heads else {}
        tables |= {"classes": "head-classes"} if self.atlas.classifies_heads else {}
        if self.atlas.validates:
            tables |= {"area": "knock-out-area", "dissociation": "dissociation", "dominance": "dominance"}
        tables |= {"generated": "generated"} if self.atlas.writes_without_heads else {}
        tables |= {"cpr": "cpr", "tests": "ranking-tests"} if self.atlas.keeps_heads else {}
        evidence = {option: f"results/{model}/evidence/{table}.parquet" for option, table in tables.items()}
        return {"summary": f"results/{model}/summary.parquet"} | evidence
