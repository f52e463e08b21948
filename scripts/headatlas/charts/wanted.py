"""Which evidence figure to draw: of which models, methods and tasks, with which looks."""

from dataclasses import dataclass, replace

import altair as alt
import polars as pl

from headatlas.charts import frame
from headatlas.charts.labels import METHOD_WORDS, task_label
from headatlas.charts.layout import LEGEND_WIDTH, PANEL_GAP, PANEL_WIDTH
from headatlas.charts.looks import Looks
from headatlas.errors import HeadAtlasError
from headatlas.metric import METRICS


@dataclass(frozen=True)
class Wanted:
    """What to draw: `method` of a figure such as `dissociation.ablation`, otherwise None; tasks in order."""

    figure: str
    method: str | None
    methods: list[str]
    models: list[str]
    tasks: list[str]
    look: Looks
    confidence: float
    metric: str

    @classmethod
    def read(cls, settings: dict) -> "Wanted":
        """Read the tool's settings: figure, model (or models), methods, tasks, confidence, metric, figures.

        Raises:
            HeadAtlasError: a figure of an unknown method; an unknown key or task in `figures`.
        """
        figure, _, method = settings["figure"].partition(".")
        if method and method not in settings["methods"]:
            raise HeadAtlasError(
                f"figure {settings['figure']}: no method `{method}`, there are: {', '.join(settings['methods'])}"
            )
        look = Looks.read(settings["figures"])
        models = settings.get("models") or [settings["model"]]
        tasks = look.in_order(settings["tasks"])
        given = (settings[name] for name in ("confidence", "metric"))
        return cls(figure, method or None, settings["methods"], models, tasks, look, *given)

    @property
    def interval(self) -> str:
        """The intervals of the tables, in words."""
        return f"{100 * self.confidence:g}\N{NO-BREAK SPACE}% interval over questions"

    @property
    def unit(self) -> str:
        """Unit of effects and of the cost of knock-outs."""
        return METRICS[self.metric].unit

    @property
    def named(self) -> str:
        """Names of the model or models."""
        *first, last = self.models
        return f"{', '.join(first)} and {last}" if first else last

    @property
    def by(self) -> str:
        """Such as `by exact ablation`, for a figure of one method."""
        return f"by {METHOD_WORDS.get(self.method, self.method)}"

    def label(self, task: str) -> str:
        """The figure's name of a task, on one line."""
        return " ".join(task_label(task, self.look.labels).split())

    @property
    def labels(self) -> list[str]:
        """Of all tasks."""
        return [self.label(task) for task in self.tasks]

    def label_column(self) -> pl.Expr:
        """The labels of a column `task`."""
        return pl.col("task").replace_strict(dict(zip(self.tasks, self.labels, strict=True)), return_dtype=pl.String)

    @property
    def grid_width(self) -> int:
        """Approximate width of a grid of curves in pixels."""
        return min(self.look.columns, len(self.tasks)) * (PANEL_WIDTH + PANEL_GAP) + LEGEND_WIDTH

    def finish(self, chart: alt.TopLevelMixin, words: frame.Words, width: float) -> dict:
        """The spec of a figure of this width (pixels); `words.short` gets the names of models and method."""
        models = ", ".join(self.models)
        look = self.look.with_names(models, self.method or ", ".join(self.methods))
        of = f": model {models}" + (f", method {self.method}" if self.method else "")
        return frame.finish(chart, look, replace(words, short=words.short + of), width)
