"""What each rule of a config costs for one model: jobs, loads, passes, memory, time, disk.

Counts come from the items and from what `scoring` says of its passes; memory from what jobs request of the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from headatlas.config.check import longest_item
from headatlas.cost.arithmetic import Arithmetic
from headatlas.cost.speed import Speed
from headatlas.evidence.knock_out_sets import compared_size, k_grid, kept_sizes
from headatlas.models.folder import read_model_config
from headatlas.models.memory import MB, token_bytes, weights_of
from headatlas.models.work import Work, longest, sequence_length, total
from headatlas.scoring.work import (
    SEQUENCES,
    ablation_work,
    attention_work,
    effects_add_up,
    expected_entry,
    gate_fits,
    gates_work,
    generation_work,
    group_entries,
    integration_work,
    knock_out_work,
    roles_work,
    rows_of,
    trace_work,
)
from headatlas.tasks.generated import with_room
from headatlas.tasks.items import split_items
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.files import Files
from headatlas.workflow.resources import Requests
from headatlas.workflow.settings import POOL_SIZE
from headatlas.workflow.targets import MAPS, Targets

KINDS = 2  # kinds of prompts from which heads are patched
JOB_SECONDS = 0.2  # of Snakemake for each job; the work of a light job is less
FIGURE_SECONDS, FIGURE_BYTES = 3, 450_000  # to draw a figure, and of one of its files, on average
ANSWER_BYTES = 100  # of a written answer
SCORE_BYTES = 4_200  # of a table of one layer's scores
LOAD_SECONDS, LOAD_BYTES = 5, 10**9  # a load takes five seconds for the libraries, and one for each GB of weights
TENSOR_SHARE = 0.63  # of `memory.token_bytes` are tensors; the rest is what the heap of a CPU takes besides
ENTRIES, ENTRY_BYTES = 8, 3  # attention weights of a row that are kept, about; bytes of each
ROLE_SCORES = 5  # of each head on each item
TRAINING = 3  # a training step takes so many forward passes


@dataclass(frozen=True)
class Row:
    """What the jobs of one rule cost together.

    Attributes:
        jobs; loads: how often they load the model.
        steps: what their progress counts (items, items x heads, items x sets).
        passes: their passes in whole passes over an item, both of average length.
        memory: bytes that one job takes, on the GPU if it runs there; 0 for light jobs.
        seconds: one job after the other, without loads; disk: bytes of their outputs.
        at_most: whether steps, passes and seconds are upper bounds, because they depend on results.
    """

    rule: str
    jobs: int
    loads: int = 0
    steps: int = 0
    passes: float = 0.0
    memory: int = 0
    seconds: float = 0.0
    disk: int = 0
    at_most: bool = False


class Plan:
    """The cost of a config for one of its models.

    Args:
        items: for each task, the content of its items file; speed: of a job that runs the model.
    """

    def __init__(self, atlas: Atlas, asks: Requests, model: str, items: dict[str, dict], speed: Speed):
        self.atlas, self.asks, self.model, self.speed = atlas, asks, model, speed
        self.items = {task: content["items"] for task, content in items.items()}
        self.score, self.validate = (
            {task: split_items(content, split) for task, content in items.items()} for split in ("score", "validate")
        )
        self.entry = atlas.models[model]
        self.config = read_model_config(self.entry)
        self.arithmetic = Arithmetic(self.config, self.entry["path"])
        self.n_layers, self.n_heads = atlas.geometry[model].n_layers, atlas.geometry[model].n_heads
        self.heads = self.n_layers * self.n_heads
        self.paired = "counterfactual" in atlas.partners

    @cached_property
    def rows(self) -> list[Row]:
        """One row per rule, in order of execution; light rules of tables and figures together."""
        atlas, evidence = self.atlas, self.atlas.config["evidence"]
        found = [self._prepare(), *([self._generate()] if atlas.generated else []), self._trace()]
        found += [self._pool()] if atlas.pools else []
        found += [self._ablate()] if atlas.ablates else []
        found += [self._ablate_groups()] if atlas.groups_heads(self.model) else []
        found += [self._attribute()] if "attribution" in atlas.methods else []
        found += [self._probe()] if "probe" in atlas.methods else []
        found += [self._gates()] if "gates" in atlas.methods else []
        found += [self._knock_out(evidence)] if atlas.knocks_out else []
        found += [self._patch(evidence)] if atlas.controls_answer else []
        found += [self._describe()] if atlas.describes_heads else []
        found += [self._generate_without_heads(evidence)] if atlas.writes_without_heads else []
        found += [self._attend()] if atlas.attends else []
        return [*found, self._scores(), self._figures()]

    @property
    def loads(self) -> int:
        """How often the run loads the model."""
        return sum(row.loads for row in self.rows)

    @property
    def load_seconds(self) -> float:
        """Seconds of all loads."""
        return self.loads * (LOAD_SECONDS + weights_of(self.entry) / LOAD_BYTES)

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, with all jobs that may run at once."""
        shared = sum(row.seconds for row in self.rows if row.memory) / self.at_once
        light = sum(row.seconds for row in self.rows if not row.memory) / self.asks.at_once
        return shared + light + self.load_seconds / (self.at_once if self.loads > 1 else 1)

    @property
    def at_once(self) -> int:
        """Jobs that run the model at once; on a cluster one, because its queue decides."""
        if self.asks.on_gpu(self.model):
            return max(1, self.asks.gpus // self.asks.job_gpus(self.model)) if self.asks.here else 1
        fit = self.asks.total_mb * MB // self.memory(backward=True)
        return max(1, min(self.asks.at_once, fit))

    def memory(self, backward: bool) -> int:
        """Bytes that a job takes where the model runs; `backward`: with gradients."""
        if not self.asks.on_gpu(self.model):
            every = chain.from_iterable(self.items.values())
            return self.asks.memory_mb(self.model, 1, backward, longest(every)) * MB
        return weights_of(self.entry) + gpu_pass_bytes(self.config, self.asks.batch_tokens(1), backward)

    # --- rules ------------------------------------------------------------------------------------------------------

    def _prepare(self) -> Row:
        size = sum(len(str(item)) for items in self.items.values() for item in items)
        return Row("prepare_task", len(self.items), disk=size, seconds=JOB_SECONDS * len(self.items))

    def _trace(self) -> Row:
        items = [item for items in self.items.values() for item in items]
        work = total(trace_work(each, self.n_layers, self.paired) for each in self.items.values())
        disk = sum(trace_bytes(each, self._shape, self.paired) for each in self.items.values())
        return self._run("trace_task", len(self.items), len(items), items, work, disk, backward=True)

    def _pool(self) -> Row:
        disk = 4 * (POOL_SIZE + 2) * self.heads * self.arithmetic.d_head
        return Row("pool_baseline", 1, disk=disk, seconds=JOB_SECONDS)

    def _ablate(self) -> Row:
        method, blocks = self.atlas.config["methods"]["ablation"], Files(self.atlas).blocks(self.model)
        patched = method["baseline"] == "counterfactual"
        work = total(
            ablation_work(items, range(first, last + 1), self.n_layers, self.n_heads, method["positions"], patched)
            for items in self.score.values()
            for first, last in blocks
        )
        steps = self._scored * self.heads
        jobs = len(self.score) * len(blocks)
        at_most = method["items"] == "adaptive"
        return self._run("ablate_layers", jobs, steps, self._all(self.score), work, 4 * steps, at_most=at_most)

    def _ablate_groups(self) -> Row:
        method, groups = self.atlas.config["methods"]["ablation"], self.atlas.geometry[self.model].n_groups
        entries, patched = group_entries(self.n_layers, groups), method["baseline"] == "counterfactual"
        work = total(
            knock_out_work(items, entries, self.n_layers, method["positions"], patched) for items in self.score.values()
        )
        steps, disk = self._scored * len(entries), 4 * self._scored * self.n_layers * groups
        return self._run("ablate_groups", len(self.score), steps, self._all(self.score), work, disk)

    def _attribute(self) -> Row:
        method, disk = self.atlas.config["methods"]["attribution"], 4 * self._scored * self.heads
        if not self.atlas.integrates:
            return Row("attribute_task", len(self.score), disk=disk, seconds=JOB_SECONDS * len(self.score))
        patched, adds_up = method["baseline"] == "counterfactual", effects_add_up(method)
        work = total(
            integration_work(each, method["steps"], self.n_layers, patched, adds_up) for each in self.score.values()
        )
        steps = self._scored * method["steps"]
        return self._run("integrate_task", len(self.score), steps, self._all(self.score), work, disk, backward=True)

    def _probe(self) -> Row:
        method = self.atlas.config["methods"]["probe"]
        disk = 4 * self._scored * self.heads
        mapped = self.heads * method["dimensions"]
        forward = 2 * mapped * (self.arithmetic.d_head + method["hidden"])
        epochs = method["epochs"] * method["seeds"] * (1 + method["permutations"])
        seconds = TRAINING * forward * self._scored * epochs / self.speed.operations
        return Row("fit_probe", 1, steps=self._scored * epochs, seconds=seconds, disk=disk, at_most=True)

    def _gates(self) -> Row:
        gates = self.atlas.config["methods"]["gates"]
        patched = gates["baseline"] == "counterfactual"
        work = total(gates_work(items, gates, self.n_layers, patched) for items in self.score.values())
        fits = gate_fits(gates)
        steps, disk = len(self.score) * fits * gates["steps"], 4 * fits * self.heads
        score, jobs = self._all(self.score), len(self.score)
        return self._run("fit_gates", jobs, steps, score, work, disk * jobs, backward=True, at_most=True)

    def _knock_out(self, evidence: dict) -> Row:
        patched = evidence["baseline"] == "counterfactual"
        rankings = [self.sets(evidence)] * len(self.atlas.methods)
        rankings += [self.random_sets(evidence)] if self.atlas.keeps_heads else []
        work, steps, validate = Work(), 0, self._all(self.validate)
        for sizes in rankings:
            entries = [expected_entry(size, self.n_layers) for size in sizes]
            work += total(
                knock_out_work(items, entries, self.n_layers, evidence["positions"], patched)
                for items in self.validate.values()
            )
            steps += len(sizes) * len(validate)
        return self._run("knock_out", len(rankings), steps, validate, work, 5 * steps, at_most=True)

    def sets(self, evidence: dict) -> list[int]:
        """Number of heads that each set of a method knocks out on one task; the sets of its own map come first.

        One size, the elbow of the map, is known only afterwards; it may fall away. Here it is the largest. Sets that
        turn out equal run once.
        """
        size = evidence["dissociation_k"] or compared_size(self.heads)
        grid = sorted({*k_grid(self.heads, 0), size})
        own = [0] + [k for k in [*grid, grid[-1]] for _ in range(2 + 2 * evidence["draws"])]
        own += self._all_but_kept(2) if self.atlas.keeps_heads else []  # by signed and by absolute effect
        return own + [size] * (1 + evidence["draws"]) * (len(self.validate) - 1)

    def random_sets(self, evidence: dict) -> list[int]:
        """The same for random rankings, of which tasks share none."""
        return [0, *self._all_but_kept(evidence["rankings"])]

    def _all_but_kept(self, rankings: int) -> list[int]:
        """Sizes of the rest where the first heads of each ranking are kept; without all heads or none, which are the
        same for every ranking, except that none is kept once."""
        _none, *sizes, _all = kept_sizes(self.heads)
        return [self.heads] + [self.heads - size for size in sizes] * rankings

    def _patch(self, evidence: dict) -> Row:
        chosen = max(1, round(evidence["top"] * self.heads))
        entries = [self.n_layers - 1, *[expected_entry(1, self.n_layers)] * chosen]
        work = total(
            knock_out_work(items, entries, self.n_layers, "answer", paired=True) for items in self.validate.values()
        )
        validate = self._all(self.validate)
        steps = KINDS * len(entries) * len(validate)
        return self._run("patch_answers", 1, steps, validate, work * KINDS, 4 * steps)

    def _describe(self) -> Row:
        work = roles_work([*self.score.values()], self.n_layers, self.arithmetic.d_head)
        steps, disk = SEQUENCES + self._scored, 4 * self.heads * ROLE_SCORES * self._scored
        return self._run("describe_heads", 1, steps, self._all(self.score), work, disk)

    def _generate(self) -> Row:
        asked = [self._asked(self.items[task]) for task in self.atlas.generated]
        work = total(generation_work(items, 1, self.n_layers, "answer") for items in asked)
        items = [item for each in asked for item in each]
        disk = ANSWER_BYTES * len(items)
        return self._run("generate_answers", len(asked), len(items), items, work, disk, at_most=True)

    def _generate_without_heads(self, evidence: dict) -> Row:
        sets, methods = 2 + evidence["draws"], len(self.atlas.methods)
        asked = [self._asked(items) for items in self.validate.values()]
        work = total(generation_work(items, sets, self.n_layers, evidence["positions"]) for items in asked) * methods
        items = [item for each in asked for item in each]
        steps = sets * len(items) * methods
        disk = ANSWER_BYTES * steps
        return self._run("generate_without_heads", methods, steps, items, work, disk, at_most=True)

    def _asked(self, items: Sequence[dict]) -> list[dict]:
        longest = longest_item(self.atlas.config, self.atlas.geometry[self.model])
        return with_room(items, self.atlas.config["generation"]["max_tokens"], longest)

    def _attend(self) -> Row:
        most = self.atlas.config["page"]["items"]
        shown = {task: items[:most] for task, items in self.score.items()}
        work = total(attention_work(items, self.n_layers, self.arithmetic.d_head) for items in shown.values())
        items = self._all(shown)
        disk = ENTRY_BYTES * ENTRIES * self.heads * sum(map(rows_of, items))
        return self._run("attend_items", len(shown), len(items), items, work, disk)

    def _scores(self) -> Row:
        jobs = len(Files(self.atlas).scores(self.model))
        return Row("score_layer", jobs, seconds=JOB_SECONDS * jobs, disk=SCORE_BYTES * jobs)

    def _figures(self) -> Row:
        targets = Targets(self.atlas)
        charts = len(MAPS) * len(self.atlas.methods) + (
            len(targets.charts(self.model)) if self.atlas.tells_evidence else 0
        )
        disk = charts * (1 + len(targets.formats)) * FIGURE_BYTES
        return Row("figures and tables", charts, seconds=FIGURE_SECONDS * charts, disk=disk)

    def _run(
        self, rule: str, jobs: int, steps: int, items: Sequence[dict], work: Work, disk: int, backward: bool = False,
        at_most: bool = False,
    ) -> Row:  # fmt: skip
        """The row of a rule that runs the model on these items."""
        whole = self.n_layers * sum(map(sequence_length, items)) / len(items)
        seconds = self.arithmetic.operations(work, self.speed.products) / self.speed.operations
        return Row(
            rule,
            jobs,
            self._loads(rule, jobs),
            steps,
            work.layers / whole,
            self.memory(backward),
            seconds,
            disk,
            at_most or bool(self.atlas.generated),
        )

    def _loads(self, rule: str, jobs: int) -> int:
        """How often a rule loads the model: on this machine the fork server does once, or the worker of each GPU."""
        if not self.asks.here:
            return jobs
        holders = min(jobs, self.at_once) if self.asks.on_gpu(self.model) else 1
        return holders if rule == "trace_task" else 0

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.n_layers, self.n_heads, self.arithmetic.d_head

    @property
    def _scored(self) -> int:
        return sum(map(len, self.score.values()))

    @staticmethod
    def _all(items: dict[str, list[dict]]) -> list[dict]:
        return [item for each in items.values() for item in each]


def gpu_pass_bytes(config: dict, tokens: int, backward: bool) -> int:
    """Bytes of the tensors of a pass of so many tokens on a GPU, by the model's config.json."""
    return round(TENSOR_SHARE * tokens * token_bytes(config, backward))


def trace_bytes(items: Sequence[dict], shape: tuple[int, int, int], paired: bool) -> int:
    """Bytes of a trace's tensors (`scoring.trace.trace_task`).

    Args:
        shape: layers, heads, width of a head; paired: whether the items have a counterfactual prompt.
    """
    layers, heads, width = shape
    outputs, effects = 4 * layers * heads * width, 4 * layers * heads
    scored = sum(item["split"] == "score" for item in items)
    return len(items) * (outputs + 4 + 1 + 1 + 8) + outputs + 2 * scored * (outputs + effects * (1 + paired))
