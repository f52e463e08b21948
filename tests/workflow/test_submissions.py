"""Which jobs a run on SLURM would submit, and with which requests; planned, without SLURM."""

import json
import re
import struct
import subprocess
from pathlib import Path

import pytest
import yaml
from slurm_runs import ON_GPU, ON_SLURM, SMALL, set_in_profile
from workflow_runs import ROOT, copy_repository, environment

pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]' has the executor")


def plan(folder: Path, *arguments: str) -> list[tuple[str, dict[str, str]]]:
    """(rule, its resources) of each job that a run on SLURM would submit: those of no local rule."""
    with open(folder / "Snakefile", "a", encoding="utf-8") as file:
        file.write('\nprint("localrules:", *workflow._localrules, flush=True)\n')
    done = subprocess.run(
        [*ON_SLURM, *arguments, "--dry-run"], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text[-3000:]
    blocks = re.findall(r"^rule (\w+):\n((?: +.*\n)+)", text, re.MULTILINE)
    line = re.compile(r"^    resources: (.*)", re.MULTILINE)
    here = {"all", *re.search(r"^localrules: (.*)", text, re.MULTILINE)[1].split()}
    jobs = [(rule, line.search(block)[1]) for rule, block in blocks if rule not in here]
    return [(rule, dict(pair.split("=", 1) for pair in resources.split(", "))) for rule, resources in jobs]


@pytest.mark.parametrize("steps", [1, 4])
def test_what_runs_the_model_or_trains_the_probe_holds_a_gpu_and_all_else_runs_here(tmp_path, steps):
    folder = copy_repository(
        tmp_path / "run", SMALL | {"methods": SMALL["methods"] | {"attribution": {"steps": steps}}}
    )
    submitted = plan(folder)
    more = {"attend_items", "integrate_task"} if steps > 1 else {"attend_items"}
    assert {rule for rule, _ in submitted} == ON_GPU | more
    for rule, resources in submitted:
        assert resources["gpu"] == "1", rule
        assert int(resources["mem_mb"]) >= 2000
        assert int(resources["runtime"]) == 120


def test_submissions_of_an_8b_model_on_eight_tasks(tmp_path):
    """8 tasks x 32 layers x 3 methods are 768 jobs of statistics, none of them submitted."""
    tasks = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))["tasks"]
    folder = copy_repository(tmp_path / "run", SMALL | {"tasks": tasks, "page": {"attention": False}})
    model = folder / "workflow/resources/demo-model"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 32, "num_attention_heads": 32}))
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    set_in_profile(folder, "# config: [", "config: [")  # layers_per_job: 8
    rules = [rule for rule, _ in plan(folder)]
    assert {rule: rules.count(rule) for rule in set(rules)} == {
        "trace_task": 8, "ablate_layers": 8 * 4, "fit_probe": 1, "knock_out": 4,
    }  # fmt: skip
