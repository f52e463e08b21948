"""Which ranking of heads predicts best: every method, and every kind of attribution, on one finished run.

PYTHONPATH=scripts python tests/benchmarks/rankings.py CONFIG FOLDER [TASK ...]

Takes the items, traces and effects of a run of CONFIG from results/ in this folder, computes the other kinds of
attribution, and knocks out and keeps heads on held-out questions by every ranking. FOLDER gets the map and a knock-out
file of each ranking and task; those that exist are taken as they are, so tasks can be run one after the other. --skip
names rankings to leave out, --sizes how many heads to knock out (by default the workflow's grid). Prints Markdown.
"""

import argparse
import json
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import yaml
from headatlas.evidence.knock_out_curves import area_gap
from headatlas.evidence.knock_out_sets import choose_sets, compared_size, k_grid, keep_random, keep_top
from headatlas.evidence.ranking_tests import ranking_tests
from headatlas.evidence.sufficiency import areas_of_curves
from headatlas.files.effects import output_norms, question_index
from headatlas.files.knock_outs import RANDOM, KnockOut, Target, knocked_out, read_knock_outs, write_knock_out
from headatlas.files.scores import read_task
from headatlas.models.loading import load_model
from headatlas.models.work import sequence_length, total
from headatlas.scoring.attribution import integrate, path_points
from headatlas.scoring.baseline import choose_baseline
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.work import ablation_work, gates_work, integration_work
from headatlas.stats.concentration import elbow
from headatlas.stats.head_statistics import mean_effects
from headatlas.stats.ranking import hottest, rank_correlation
from headatlas.tasks.items import read_split
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.files import Files
from headatlas.workflow.settings import settings_of

ROOT = Path(__file__).parents[2]
KINDS = {  # of attribution: path, steps, rule
    "attribution": ("line", 1, "plain"),
    "attribution, 8 steps": ("line", 8, "plain"),
    "attribution, expected": ("expected", 1, "plain"),
    "attribution, gim": ("line", 1, "gim"),
    "attribution, expected, gim": ("expected", 1, "gim"),
}
TOKENS, DRAWS, TOP, CONFIDENCE = 8192, 2, 0.1, 0.95


class Run:
    """A finished run of a config's first model."""

    def __init__(self, config: Path, skipped: list[str], sizes: list[int]):
        self.sizes = sizes
        self.atlas = Atlas(yaml.safe_load(config.read_text()), ROOT)
        self.name = next(iter(self.atlas.models))
        self.folder, self.seed = Path("results") / self.name, self.atlas.config["seed"]
        self.methods = self.atlas.config["methods"]
        measured = [method for method in self.atlas.methods if method != "attribution"]
        every = [*measured[:1], *KINDS, *measured[1:]]
        self.rankings = [ranking for ranking in every if ranking not in skipped]

    @cached_property
    def model(self):
        """The loaded model."""
        settings = json.loads(settings_of(self.atlas, "trace_task", {"model": self.name}))["model"]
        return load_model(settings)

    def items(self, task: str, split: str) -> list[dict]:
        """A task's items."""
        return read_split(self.folder / f"items/{task}.json", split)

    def trace(self, task: str) -> Path:
        """A task's trace."""
        return self.folder / f"trace/{task}.safetensors"

    def baseline(self, section: dict, items: list[dict], task: str):
        """What edited heads output by a section of the config."""
        settings = section | {"task": task, "seed": self.seed}
        pool = self.folder / "baseline.safetensors"
        return choose_baseline(settings, items, self.model.shape, self.trace(task), pool)

    def map(self, ranking: str, task: str, folder: Path) -> np.ndarray:
        """[layer, head]: a task's map, kept in the folder."""
        path = folder / f"{ranking}.{task}.npy"
        if not path.exists():
            np.save(path, self._map(ranking, task))
        return np.load(path)

    def _map(self, ranking: str, task: str) -> np.ndarray:
        if ranking not in KINDS:
            names = Files(self.atlas).effect_names(self.name, [ranking])[ranking]
            read = read_task(self.folder / "effects" / ranking, names, task)
            return mean_effects(read.effect, read.question)
        path, steps, rule = KINDS[ranking]
        section, items = self.methods["attribution"], self.items(task, "score")
        points = path_points(items, path, steps, self.seed)
        effect = integrate(
            self.model, items, self.baseline(section, items, task), section["positions"], points, TOKENS, rule=rule
        )
        return mean_effects(effect, question_index(items))

    def passes(self, ranking: str, task: str) -> float:
        """What a ranking costs, in forward passes over the items that it is made from; the probe's training is none."""
        items, n_layers, n_heads = self.items(task, "score"), self.model.n_layers, self.model.n_heads
        section = self.methods["attribution" if ranking in KINDS else ranking]
        paired = section.get("baseline") == "counterfactual"
        if ranking == "ablation":
            work = ablation_work(items, range(n_layers), n_layers, n_heads, section["positions"], paired)
        elif ranking == "gates":
            work = gates_work(items, section, n_layers, paired)
        elif ranking in KINDS:
            work = total(integration_work([item], KINDS[ranking][1], n_layers, paired, False) for item in items)
        else:
            return 1.0
        return work.layers / (n_layers * sum(map(sequence_length, items)))


def knock_out_all(run: Run, effects: dict[str, np.ndarray], task: str, number: int, folder: Path) -> None:
    """Write a task's knock-outs by every ranking that has none yet, all in the same passes."""
    norms, chosen = output_norms(run.trace(task)), {}
    evidence, items = run.atlas.config["evidence"], run.items(task, "validate")
    missing = [name for name in (*effects, RANDOM) if not (folder / f"{name}.{task}.safetensors").exists()]
    for ranking in missing:
        if ranking == RANDOM:
            chosen[RANDOM] = keep_random(norms, evidence["rankings"], (run.seed, number))
            continue
        sizes = np.abs(effects[ranking][~np.isnan(effects[ranking])])
        ks = run.sizes or {*k_grid(len(sizes), elbow(sizes)), compared_size(len(sizes))}
        sets = choose_sets(effects[ranking], norms, ks, DRAWS, (run.seed, number)) + keep_top(effects[ranking])
        chosen[ranking] = [one for one in sets if one["selection"] not in ("bottom", "random_norm")]
    every = [(layer, head) for layer in run.model.attention_layers for head in range(run.model.n_heads)]
    sets = [knocked_out(one, every) for listed in chosen.values() for one in listed]
    baseline = run.baseline(evidence, items, task)
    score, correct, report = knock_out(run.model, items, sets, baseline, evidence["positions"], TOKENS)
    start = 0
    for ranking, listed in chosen.items():
        part = slice(start, start + len(listed))
        target = Target(np.arange(len(listed)), score[part], correct[part], question_index(items))
        known = (ranking, task, None if ranking == RANDOM else compared_size(len(every)), listed)
        found = KnockOut(*known, {task: target}, {task: report.as_dict()})
        write_knock_out(folder / f"{ranking}.{task}.safetensors", found)
        start = part.stop


def agreement(effects: dict[str, np.ndarray]) -> dict[str, tuple[float, float, float]]:
    """Of each ranking with ablation: correlation of signed effects by rank, and of the heads that are hottest by
    ablation the share that are hottest by it, and that have the same sign."""
    exact = effects["ablation"]
    heads = hottest(exact, TOP)
    found = {}
    for ranking, effect in effects.items():
        shared = len({*heads} & {*hottest(effect, TOP)}) / len(heads)
        signs = np.mean([np.sign(effect[head]) == np.sign(exact[head]) for head in heads])
        known = ~np.isnan(exact)
        found[ranking] = (float(rank_correlation(effect[known], exact[known])), shared, float(signs))
    return found


def print_agreement(found: dict[str, dict[str, tuple[float, float, float]]], rankings: list[str]) -> None:
    """One row a task and ranking, and the means."""
    print("\n| task | ranking | rank correlation with ablation | same hottest tenth | same sign there |")
    print("| --- " * 5 + "|")
    for ranking in rankings[1:]:
        rows = {task: each[ranking] for task, each in found.items()}
        rows["mean"] = tuple(np.mean([*rows.values()], axis=0))
        for task, (correlation, shared, signs) in rows.items():
            print(f"| {task} | {ranking} | {correlation:.3f} | {shared:.2f} | {signs:.2f} |")


def print_table(run: Run, folder: Path, tasks: list[str]) -> None:
    """Means over tasks of CPR, CMD and knock-out area, costs, and in how many tasks a ranking beats plain attribution
    or loses (95 % interval of the difference over questions, not adjusted)."""
    rankings = [*run.rankings, RANDOM]
    files = read_knock_outs(sorted(folder.glob("*.safetensors")), rankings, tasks)
    areas = areas_of_curves(files.values(), run.atlas.config["evidence"]["baseline"], CONFIDENCE, run.seed)
    tests = ranking_tests(files, tasks, CONFIDENCE, run.seed)
    print("\n| ranking | task | CPR | CMD |\n| --- | --- | --- | --- |")
    for row in areas.iter_rows(named=True):
        print(
            f"| {row['method']} | {row['task']} | {row['cpr']:.3f} [{row['cpr_low']:.3f}, {row['cpr_high']:.3f}] | "
            f"{row['cmd']:.3f} [{row['cmd_low']:.3f}, {row['cmd_high']:.3f}] |"
        )
    print("\n| ranking | CPR | better : worse | CMD | better : worse | area | better : worse | passes |")
    print("| --- " * 8 + "|")
    for ranking in rankings:
        cells = []
        for figure in ("cpr", "cmd", "area"):
            cells += [_mean(areas, files, ranking, figure), _against(tests, ranking, figure)]
        passes = "0" if ranking == RANDOM else f"{np.mean([run.passes(ranking, task) for task in tasks]):.1f}"
        print(f"| {ranking} | {' | '.join(cells)} | {passes} |")


def _mean(areas: pl.DataFrame, files: dict, ranking: str, figure: str) -> str:
    if figure == "area":
        gaps = [area_gap(file).mean() for (method, _), file in files.items() if method == ranking != RANDOM]
        return f"{np.mean(gaps):.3f}" if gaps else ""
    values = areas.filter(pl.col("method") == ranking)[figure].fill_nan(None).drop_nulls()
    return f"{values.mean():.3f}" if len(values) else "undefined"


def _against(tests: pl.DataFrame, ranking: str, figure: str) -> str:
    """better : worse than plain attribution."""
    sign = -1 if figure == "cmd" else 1
    better = worse = 0
    for row in tests.filter(pl.col("figure") == figure).iter_rows(named=True):
        if {row["method_a"], row["method_b"]} != {ranking, "attribution"}:
            continue
        turn = sign if row["method_a"] == ranking else -sign
        low, high = sorted((turn * row["ci_low"], turn * row["ci_high"]))
        better, worse = better + (low > 0), worse + (high < 0)
    return "" if ranking == "attribution" else f"{better} : {worse}"


def main() -> None:
    """Compute what is missing; print the tables of the tasks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="*")
    parser.add_argument("--skip", action="append", default=[], metavar="RANKING")
    parser.add_argument("--sizes", nargs="+", type=int, default=[])
    given = parser.parse_args()
    run, found = Run(given.config, given.skip, given.sizes), {}
    tasks = given.tasks or run.atlas.tasks
    given.folder.mkdir(parents=True, exist_ok=True)
    for number, task in enumerate(run.atlas.tasks):
        if task not in tasks:
            continue
        effects = {ranking: run.map(ranking, task, given.folder) for ranking in run.rankings}
        if not all((given.folder / f"{name}.{task}.safetensors").exists() for name in (*run.rankings, RANDOM)):
            knock_out_all(run, effects, task, number, given.folder)
        found[task] = agreement(effects)
    print_agreement(found, run.rankings)
    print_table(run, given.folder, tasks)


if __name__ == "__main__":
    main()
