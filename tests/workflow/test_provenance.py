"""provenance.json, the digests of files behind it, and plans: nothing to do, a colour, many layers."""

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path

import pytest
from headatlas.workflow.digests import digests
from headatlas.workflow.fingerprint import fingerprint
from safetensors import safe_open
from workflow_runs import (
    FIGURES,
    INDEPENDENT,
    REDUCED,
    copy_repository,
    copy_run,
    finish,
    large_plan,
    planned,
    shell_of_a_model,
    snakemake,
    write_config,
)


def provenance(folder: Path, model: str) -> dict:
    return json.loads((folder / f"results/{model}/provenance.json").read_text(encoding="utf-8"))


def test_provenance_names_what_the_numbers_came_from(finished):
    said = provenance(finished, "demo")
    model = "workflow/resources/demo-model"
    sources = {f"config/tasks/{task}.jsonl" for task in REDUCED["tasks"]}
    assert sources | {f"{model}/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")} <= set(
        said["files"]
    )
    for file, digest in said["files"].items():
        assert digest == hashlib.sha256((finished / file).read_bytes()).hexdigest(), file
    assert said["model"]["path"] == model
    assert (said["seed"], said["dtype"], said["devices"]) == (0, "float32", ["cpu"])
    assert said["config"]["statistics"] == {"items": "all", "resamples": 200, "permutations": 200, "confidence": 0.95}
    assert said["config"]["tasks"]["retrieval"]["max_items"] == REDUCED["items"]["max_items"]
    assert said["config"]["methods"].keys() == {"ablation", "attribution", "probe"}
    for package in ("torch", "transformers", "numpy", "polars", "snakemake"):
        assert said["packages"][package] == metadata.version(package)
    assert said["code"]["fingerprints"]["score_layer"] == fingerprint("score_layer.py")
    rules = set(planned((finished / "run.txt").read_text(encoding="utf-8")))
    assert rules <= set(said["code"]["fingerprints"])  # every rule that ran
    with safe_open(finished / "results/demo/trace/retrieval.safetensors", "np") as file:
        assert file.metadata()["device"] == "cpu"


def test_provenance_is_the_same_for_the_same_run(independent, tmp_path):
    folder = copy_run(independent, tmp_path / "run")
    before = (folder / "results/tiny/provenance.json").read_bytes()
    finish(folder, "--forcerun", "write_provenance", "--", "results/tiny/provenance.json")
    assert (folder / "results/tiny/provenance.json").read_bytes() == before


def test_provenance_follows_what_it_records(independent, tmp_path):
    folder = copy_run(independent, tmp_path / "run")
    write_config(folder, INDEPENDENT | {"evidence": {"run": False, "halves": 50}})
    assert planned(finish(folder)) == {"write_provenance": 1}
    assert provenance(folder, "tiny")["config"]["evidence"]["halves"] == 50


# --- digests of files ------------------------------------------------------------------------------------------


def test_digests_are_sha256_and_follow_content_not_time(tmp_path):
    file, cache = tmp_path / "file", tmp_path / "cache.json"
    file.write_bytes(b"abc")
    # FIPS 180-4, example of SHA-256
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digests([str(file)], cache) == {str(file): abc}
    os.utime(file, (1, 1))
    assert digests([str(file)], cache) == {str(file): abc}
    file.write_bytes(b"abd")
    assert digests([str(file)], cache) == {str(file): hashlib.sha256(b"abd").hexdigest()}


def test_an_unchanged_file_is_not_read_again(tmp_path):
    file, cache = tmp_path / "file", tmp_path / "cache.json"
    file.write_bytes(b"abc")
    digests([str(file)], cache)
    known = json.loads(cache.read_text())
    known[str(file)][1] = "remembered"
    cache.write_text(json.dumps(known))
    assert digests([str(file)], cache) == {str(file): "remembered"}


@pytest.mark.parametrize("spoilt", ["", "[]", "{", "\0"])
def test_a_spoilt_cache_is_done_without(spoilt, tmp_path):
    file, cache = tmp_path / "file", tmp_path / "cache.json"
    file.write_bytes(b"abc")
    cache.write_text(spoilt)
    assert digests([str(file)], cache)[str(file)].startswith("ba7816bf")


# --- plans -----------------------------------------------------------------------------------------------------
# tests/benchmarks/reruns.py measures how long they take.


def test_a_rerun_of_the_finished_demo_does_nothing(finished):
    assert planned(finish(finished)) == {}


def test_a_new_colour_draws_only(finished, tmp_path):
    """From the edit to PNG, SVG, PDF and HTML of one method's figure."""
    folder = copy_run(finished, tmp_path / "run")
    write_config(folder, REDUCED | {"figures": {"scheme": "magma"}})
    assert planned(finish(folder, *FIGURES)) == {"draw_figure": 1, "render_figure": 1}


def test_a_large_plan_has_a_job_per_method_task_and_layer(tmp_path):
    folder = large_plan(tmp_path)
    assert planned(finish(folder, "--dry-run"))["score_layer"] == 3 * 8 * 32


# --- commands --------------------------------------------------------------------------------------------------

LONGEST_COMMAND = (
    128 * 1024
)  # Linux's limit in bytes for one argument (MAX_ARG_STRLEN); a command is one argument of bash


def test_no_command_comes_near_what_linux_takes(tmp_path):
    """8 tasks x 80 layers x 3 methods, a job for each layer, all names as long as they may be."""
    shell_of_a_model(tmp_path / "model", layers=80, heads=64)
    model, *tasks = [f"n{hashlib.sha256(bytes([number])).hexdigest()[1:]}" for number in range(9)]
    config = {
        "models": {model: {"path": str(tmp_path / "model")}},
        "tasks": {task: {"source": "config/tasks/retrieval.jsonl"} for task in tasks},
        "compute": {"layers_per_job": 1},
    }
    folder = copy_repository(tmp_path / "run", config)
    said = snakemake(folder, "--dry-run", "--printshellcmds").stdout
    commands = [line for line in said.splitlines() if line.startswith("Shell command: headatlas ")]
    jobs = planned(said)
    assert jobs["score_layer"] == 8 * 80 * 3
    assert len(commands) == sum(jobs.values())
    longest = max(commands, key=len)
    assert len(longest.encode()) < LONGEST_COMMAND / 4, longest[:200]
