"""A model opened once: maps of its heads, knock-outs and figures, by the same functions that the rules call."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import altair as alt
import numpy as np
import polars as pl
import pyarrow as pa

from headatlas.charts import head_maps
from headatlas.config.schema import load_schema
from headatlas.errors import HeadAtlasError
from headatlas.evidence.importance import importance_table
from headatlas.files.effects import (
    attribution_from_terms,
    pool_baseline,
    question_index,
    read_baseline,
    require_finite,
)
from headatlas.files.scores import score_table
from headatlas.jobs.cli import log
from headatlas.library.given import Items, checked, read_heads, read_tasks, warned
from headatlas.models.device import choose_device
from headatlas.models.engine import Report
from headatlas.models.folder import check_model_folder, check_tokenizer, find_model, is_local, read_geometry
from headatlas.models.head_model import HeadModel
from headatlas.models.loading import load_model
from headatlas.models.replacement import Baseline, PromptBaseline, VectorBaseline, partners
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.trace import trace_task
from headatlas.stats.head_statistics import head_statistics, no_statistics
from headatlas.tasks.tokens import Tokeniser, load_tokeniser
from headatlas.workflow.engine_record import slow_ways
from headatlas.workflow.resources import usable_mb
from headatlas.workflow.settings import POOL_SIZE, RENDER_ONLY

__all__ = ["HeadAtlas", "HeadAtlasError", "open", "read_heads"]

BASELINES = ("mean", "task_mean", "zero", "counterfactual")
METHODS = ("ablation", "attribution")


def open(
    path: str | Path,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    attn_implementation: str | None = None,
    chat_template: bool = False,
    trust_remote_code: bool = False,
    engine: str = "auto",
    batch_tokens: int = 8192,
    threads: int = 1,
) -> "HeadAtlas":
    """Load a model, prove its heads, and return it as an atlas.

    Args:
        path: local folder, GGUF file, package://NAME/FILE or hub id; the other options are those of `models` and
            `compute` in a config (config/README.md).
        threads: of the CPU, for the whole process; small models run fastest with one.

    Raises:
        HeadAtlasError: an option is wrong, the model cannot be loaded, or its heads are not found.
    """
    sections = load_schema()["properties"]
    own = {"revision": revision, "dtype": dtype, "device": device, "attn_implementation": attn_implementation}
    own |= {"chat_template": chat_template, "trust_remote_code": trust_remote_code}
    how = checked(sections["compute"], {"engine": engine, "batch_tokens": batch_tokens, "threads": threads})
    settings = checked(sections["models"]["additionalProperties"], {"path": str(path)} | own)
    settings["path"] = find_model(settings["path"], Path.cwd())
    if settings["revision"] is not None and is_local(settings["path"]):
        raise HeadAtlasError(f"revision: applies to hub models, but {settings['path']} is local; remove it")
    with warned():
        geometry = read_geometry(settings)
        check_model_folder(settings, geometry.n_layers)
        check_tokenizer(settings)
        tokeniser = load_tokeniser(settings)
        model = load_model(settings, choose_device(device, threads)).within(usable_mb())
    return HeadAtlas(model, tokeniser, chat_template, geometry.max_positions, how["engine"], how["batch_tokens"])


class Traced(NamedTuple):
    """The traces of some tasks' items, and what pools them."""

    traces: dict[str, Path]
    pooled: Path


class HeadAtlas:
    """An opened model; `headatlas.open` makes it.

    Items of a task are a list of dicts with the keys of task files (`prompt`, `answer`, and optionally `question_id`,
    `id`, `foil`, `counterfactual`), or the path of such a file. Several tasks are a dict of these by name.
    """

    def __init__(
        self, model: HeadModel, tokeniser: Tokeniser, chat: bool, longest: int | None, engine: str, batch_tokens: int
    ):
        self._model, self._tokeniser, self._chat, self._longest = model, tokeniser, chat, longest
        self._engine, self._batch_tokens = engine, batch_tokens

    def __repr__(self) -> str:
        """Such as `HeadAtlas(model: 6 layers of 8 heads of width 16)`."""
        layers, heads, width = self.shape
        return f"HeadAtlas({self._model.name}: {layers} layers of {heads} heads of width {width})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, query heads of a layer, d_head)."""
        return self._model.shape

    def effects(
        self,
        items: Items | dict[str, Items],
        method: str = "ablation",
        *,
        baseline: str | np.ndarray = "mean",
        positions: str = "answer",
        metric: str = "log_prob",
        confidence: float = 0.95,
    ) -> pl.DataFrame:
        """How much of the answer's score each head is worth.

        Args:
            items: of one task, called `items` in the table, or of several by name.
            method: `ablation` (exact, one head at a time) or `attribution` (first-order estimate, two passes).
            baseline: what the head outputs instead: its `mean` over the items of all tasks, its `task_mean`, `zero`,
                its output on the item's `counterfactual` prompt, or an array [layer, head, d_head].
            positions: where: `answer`, the positions whose next token is an answer token, or `all`.
            metric: `log_prob`, nats per answer token, or `margin` over the item's `foil`, nats.
            confidence: of the intervals, which are over questions; with fewer than 20 there are none.

        Returns:
            one row per task, layer and head, as `importance.parquet` (results/README.md): model, method, task, layer,
            head, effect (nats; above 0 the head helps), std_error, ci_low, ci_high, p_value, q_value, importance (sums
            to 1 over a task), rank, n_items, n_questions, stopped, note.

        Raises:
            HeadAtlasError: wrong items or options; the model overflows.
        """
        _one_of("method", method, METHODS)
        checked(load_schema()["properties"]["statistics"], {"confidence": confidence})
        with warned(), TemporaryDirectory() as folder:
            tasks = self._tasks(items, baseline, positions, metric)
            traced = method == "attribution" or _is_mean(baseline)
            means = self._trace(tasks, Path(folder)) if traced else None
            scores = []
            for task, chosen in tasks.items():
                if method == "ablation":
                    replacement = self._baseline(task, chosen, baseline, positions, means)
                    layers = range(self._model.n_layers)
                    passes = (self._model, chosen, replacement, layers, positions, self._batch_tokens)
                    effect, report = ablate_layers(*passes, engine=self._engine)
                    _report("effects", task, report)
                else:
                    table = self._table(task, chosen, baseline, positions, means)
                    effect = attribution_from_terms(means.traces[task], table, positions)
                require_finite(f"task {task}", effect, self._model.layers_without_attention)
                scores += self._scores(effect, question_index(chosen), confidence, (method, task))
            return importance_table(pl.from_arrow(pa.concat_tables(scores)), [method], list(tasks))

    def knock_out(
        self,
        heads: Iterable[tuple[int, int]] | str | Path,
        items: Items | dict[str, Items],
        *,
        baseline: str | np.ndarray = "mean",
        positions: str = "answer",
        metric: str = "log_prob",
    ) -> pl.DataFrame:
        """What the model scores without some heads, all of them at once.

        Args:
            heads: (layer, head) pairs, or the path of a list of heads (heads/{task}.json).
            items, baseline, positions, metric: as in `effects`. A `mean` is over these items; for a fair test on
                questions that chose no head, give `means` of other items.

        Returns:
            one row per item: task, id, question_id, clean and score (with all heads and without these), effect (clean -
            score), all in nats, clean_correct and correct (whether each answer token is the first choice, or the
            answer beats the foil).

        Raises:
            HeadAtlasError: wrong heads, items or options.
        """
        heads = read_heads(heads)
        self._model.require(heads)
        parts = []
        with warned(), TemporaryDirectory() as folder:
            tasks = self._tasks(items, baseline, positions, metric)
            means = self._trace(tasks, Path(folder)) if _is_mean(baseline) else None
            for task, chosen in tasks.items():
                replacement = self._baseline(task, chosen, baseline, positions, means)
                passes = (self._model, chosen, [[], heads], replacement, positions, self._batch_tokens)
                score, correct, report = knock_out(*passes, engine=self._engine)
                score = score.astype(np.float64)
                _report("knock_out", task, report)
                known = {"task": [task] * len(chosen)}
                known |= {key: [item[key] for item in chosen] for key in ("id", "question_id")}
                known |= {"clean": score[0], "score": score[1], "effect": score[0] - score[1]}
                parts.append(pl.DataFrame(known | {"clean_correct": correct[0] == 1, "correct": correct[1] == 1}))
        return pl.concat(parts)

    def means(self, items: Items | dict[str, Items], positions: str = "answer") -> np.ndarray:
        """What each head outputs on average over items: [layer, head, d_head] float32, NaN in layers without attention.

        Args:
            items: as in `effects`; each item counts once, whatever its task and length.
            positions: `answer` or `all`.
        """
        _one_of("positions", positions, ("answer", "all"))
        with warned(), TemporaryDirectory() as folder:
            means = self._trace(self._tasks(items, "zero", positions, "log_prob"), Path(folder))
            return read_baseline({"baseline": "mean", "positions": positions}, [], self.shape, None, means.pooled)[0]

    def grid(
        self, table: pl.DataFrame, method: str | None = None, *, signed: bool = False, metric: str = "log_prob", **looks
    ) -> alt.TopLevelMixin:
        """A heatmap of layers x heads for each task; a notebook shows it when it is a cell's last value.

        Args:
            table: of `effects` (of several: `polars.concat`), or `importance.parquet`.
            method: which of the table's methods to draw; needed if there are several.
            signed: colour by signed effect instead of importance; metric: that of the table, for its unit.
            looks: keys of `figures` in a config, such as columns, scheme and upper_limit.

        Raises:
            HeadAtlasError: the table lacks something, or a key is wrong.
        """
        methods = table["method"].unique(maintain_order=True).to_list()
        if method is None and len(methods) > 1:
            raise HeadAtlasError(f"method: the table has {', '.join(methods)}; say which one to draw")
        method = method or methods[0]
        names = table["model"].unique(maintain_order=True).to_list()
        wanted = {"figure": "signed-grid" if signed else "heatmap-grid", "method": method, "model": ", ".join(names)}
        wanted |= {"tasks": table.filter(method=method)["task"].unique(maintain_order=True).to_list()}
        figures = checked(load_schema()["properties"]["figures"], looks)
        drawn = {key: value for key, value in figures.items() if key in looks or key not in RENDER_ONLY}
        wanted |= {"metric": metric, "figures": drawn}
        return alt.Chart.from_dict(head_maps.draw(table, wanted))

    # --- from items to effects ---------------------------------------------------------------------------------------

    def _tasks(
        self, items: Items | dict[str, Items], baseline: str | np.ndarray, positions: str, metric: str
    ) -> dict[str, list[dict]]:
        _one_of("positions", positions, ("answer", "all"))
        _one_of("metric", metric, ("log_prob", "margin"))
        texts = ["foil"] if metric == "margin" else []
        if not isinstance(baseline, np.ndarray):
            _one_of("baseline", baseline, BASELINES)
            texts += ["counterfactual"] if baseline == "counterfactual" else []
        elif baseline.shape != self.shape:
            shapes = [" x ".join(map(str, shape)) for shape in (baseline.shape, self.shape)]
            raise HeadAtlasError(f"baseline: has the shape {shapes[0]}, but the model's heads have {shapes[1]}")
        return read_tasks(items, texts, self._tokeniser, self._chat, self._longest)

    def _trace(self, tasks: dict[str, list[dict]], folder: Path) -> Traced:
        means = Traced({task: folder / f"{task}.safetensors" for task in tasks}, folder / "pooled-baseline")
        for task, chosen in tasks.items():
            trace_task(self._model, chosen, means.traces[task], self._batch_tokens)
        pool_baseline(means.traces, means.pooled, POOL_SIZE, seed=0)
        return means

    def _baseline(
        self, task: str, chosen: list[dict], baseline: str | np.ndarray, positions: str, means: Traced | None
    ) -> Baseline:
        table = self._table(task, chosen, baseline, positions, means)
        return PromptBaseline(partners(chosen, "counterfactual")) if table is None else VectorBaseline(table)

    def _table(
        self, task: str, chosen: list[dict], baseline: str | np.ndarray, positions: str, means: Traced | None
    ) -> np.ndarray | None:
        """[1, layer, head, d_head] float32; None for what heads output on the counterfactual prompts."""
        if isinstance(baseline, np.ndarray):
            return baseline[None].astype(np.float32)
        if baseline == "counterfactual":
            return None
        settings = {"baseline": baseline, "positions": positions}
        trace, pooled = (means.traces[task], means.pooled) if means else (None, None)
        return read_baseline(settings, chosen, self.shape, trace, pooled)

    def _scores(
        self, effect: np.ndarray, question: np.ndarray, confidence: float, named: tuple[str, str]
    ) -> list[pa.Table]:
        """A table for each layer, as `score_layer` makes it; effect: [item, layer, head]."""
        model = self._model
        names = {"model": Path(model.name).name, "method": named[0], "task": named[1]}
        return [
            score_table(
                head_statistics(effect[:, layer], question, confidence=confidence)
                if model.attentions[layer]
                else no_statistics(model.n_heads),
                names,
                layer,
            )
            for layer in range(model.n_layers)
        ]


def _one_of(name: str, given: object, known: tuple[str, ...]) -> None:
    if given not in known:
        raise HeadAtlasError(f"{name}: must be {', '.join(known[:-1])} or {known[-1]}, got {given!r}")


def _is_mean(baseline: str | np.ndarray) -> bool:
    return isinstance(baseline, str) and baseline in ("mean", "task_mean")


def _report(rule: str, task: str, report: Report) -> None:
    """Warn of full passes where replayed ones were not exact."""
    for sentence in slow_ways([{"rule": rule, "task": task} | report.as_dict()]):
        log.warning("%s", sentence)
