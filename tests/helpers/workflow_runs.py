"""Runs of the whole workflow in temporary copies of the repository, and plans of what a rerun would do."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "pyproject.toml", "config", "scripts", "workflow")
SNAKEMAKE = [sys.executable, "-m", "snakemake"]
PATIENCE = 1800  # seconds after which a test stops waiting: such a job hangs, however busy the machine is
CODE = [*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts/headatlas").rglob("*.py")]
CALLERS = [".".join(path.relative_to(ROOT / "scripts").with_suffix("").parts) for path in CODE]
CALLERS += ["__main__", "torch.nn.modules.module"]  # the latter calls a model's forward for us
WARNINGS = ",".join(f"error::{kind}:{name}" for kind in ("DeprecationWarning", "FutureWarning") for name in CALLERS)

# The demo, made small: enough of everything for every rule to have several jobs.
REDUCED = {
    "models": {"demo": {"path": "workflow/resources/demo-model", "device": "cpu"}},
    "tasks": {
        "retrieval": {"source": "config/tasks/retrieval.jsonl"},
        "inference": {"source": "config/tasks/inference.jsonl"},
        "math_calculation": {"source": "config/tasks/math_calculation.jsonl"},
    },
    "items": {"max_items": 24},
    "methods": {
        "ablation": {},
        "attribution": {},
        "probe": {"seeds": 2, "epochs": 10, "dimensions": 8, "hidden": 16},
    },
    "statistics": {"resamples": 200, "permutations": 200},
    "evidence": {"draws": 2, "rankings": 4, "halves": 10},
    "page": {"attention": True},
}

# Smaller yet, and its tasks do not depend on one another: no pooled baseline, no probe, no evidence.
# 64 items of a task are 22 questions to score on: enough for intervals.
INDEPENDENT = {
    "models": {"tiny": {"path": "tiny", "device": "cpu"}},
    "tasks": {
        "retrieval": {"source": "config/tasks/retrieval.jsonl", "max_items": 64},
        "inference": {"source": "config/tasks/inference.jsonl", "max_items": 64},
    },
    "methods": {"ablation": {"baseline": "zero"}, "attribution": {"baseline": "zero"}},
    "statistics": {"resamples": 200, "permutations": 200},
    "evidence": {"run": False},
    "figures": {"formats": ["svg"]},
}


def copy_repository(folder: Path, config: dict) -> Path:
    """Copy what a run needs to `folder`, with `config` as its config.yaml."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / part)
    write_config(folder, config)
    return folder


def build_tiny(folder: Path) -> None:
    """A Llama of 2 layers and 4 heads with random weights, reading the demo's words."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    demo = ROOT / "workflow/resources/demo-model"
    words = json.loads((demo / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy2(demo / name, folder)


def copy_run(finished: Path, folder: Path) -> Path:
    """Copy a finished run, times of files included."""
    return shutil.copytree(finished, folder, symlinks=True)


def write_config(folder: Path, config: dict) -> None:
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def environment() -> dict[str, str]:
    """The environment of a run: one thread, no GPU, nothing from the network, nothing from the tests' own path.

    What a library warns our calls of is an error there, as in the tests themselves (pyproject.toml).
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "XDG_CONFIG_HOME")}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONWARNINGS": WARNINGS,
    }


def snakemake(folder: Path, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder`; both streams end up in `stdout`."""
    command = [*SNAKEMAKE, "--cores", "all", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment(), text=True, timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip


def finish(folder: Path, *arguments: str) -> str:
    """Run Snakemake to its end and return its output."""
    done = snakemake(folder, *arguments)
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def planned(output: str) -> dict[str, int]:
    """Jobs of each rule in Snakemake's table `Job stats`, without the rule `all`; none where nothing is to be done."""
    if "Nothing to be done" in output:
        return {}
    tables = re.findall(r"^Job stats:\njob +count\n[- ]+\n((?:\w+ +\d+\n)+)", output, re.MULTILINE)
    assert tables, output[-5000:]
    jobs = {rule: int(count) for rule, count in (line.split() for line in tables[0].splitlines())}
    return {rule: count for rule, count in jobs.items() if rule not in ("all", "total")}


FIGURES = [f"results/demo/figures/heatmap-grid.ablation.{form}" for form in ("png", "svg", "pdf", "html")]


def shell_of_a_model(folder: Path, layers: int, heads: int) -> None:
    """A model that is little more than its config.json: enough to plan with."""
    folder.mkdir(parents=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
    config |= {"num_hidden_layers": layers, "num_attention_heads": heads}
    (folder / "config.json").write_text(json.dumps(config))
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "tokenizer.json").write_text("{}")


def large_plan(folder: Path) -> Path:
    """A copy of the repository set up for a model of 32 layers on the demo's eight tasks, by all three methods."""
    shell_of_a_model(folder / "model", layers=32, heads=32)
    tasks = sorted(path.stem for path in (ROOT / "config/tasks").glob("*.jsonl"))
    assert len(tasks) == 8
    large = {
        "models": {"large": {"path": str(folder / "model")}},
        "tasks": {task: {"source": f"config/tasks/{task}.jsonl"} for task in tasks},
    }
    return copy_repository(folder / "run", large)


class Planner:
    """Dry runs at half the price: one process imports Snakemake once and forks for every plan."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )

    def plan(self, folder: Path, *arguments: str) -> dict[str, int]:
        """The jobs that `snakemake` would run in `folder`."""
        output = folder.with_suffix(".plan")
        request = {"folder": str(folder), "output": str(output), "arguments": ["--dry-run", "--cores", "1", *arguments]}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        self.process.stdout.readline()
        return planned(output.read_text(encoding="utf-8"))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def _serve() -> None:
    from snakemake.cli import main

    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os.chdir(request["folder"])
            output = os.open(request["output"], os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            main(request["arguments"])
        os.waitpid(child, 0)
        print("done", flush=True)


if __name__ == "__main__":
    _serve()
