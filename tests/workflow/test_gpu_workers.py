"""Runs whose jobs run in workers, as on a GPU: here workers of the CPU, one because there is one core."""

import re
from pathlib import Path

import pytest
from headatlas.models.device import WORKERS
from workflow_runs import INDEPENDENT, REDUCED, build_tiny, copy_repository, finish

FILES = ("trace/*", "effects/*/*", "evidence/knock-out/*/*.safetensors")


@pytest.fixture(autouse=True)
def workers_of_the_cpu(monkeypatch):
    monkeypatch.setenv(WORKERS, "cpu")


def loads(folder: Path) -> list[tuple[str, bool]]:
    """(model, whether it was loaded for this job) of each job that runs one, in the order in which they ended."""
    said = re.compile(r"^load_model: (.+)$", re.MULTILINE)
    logs = sorted(folder.glob("results/*/logs/**/*.log"), key=lambda log: log.stat().st_mtime_ns)
    found = [(log.relative_to(folder).parts[1], said.findall(log.read_text(encoding="utf-8"))) for log in logs]
    return [(model, lines != ["shared with other jobs"]) for model, lines in found if lines]


def test_one_load_serves_traces_ablations_and_knock_outs_and_their_numbers_stay(finished, tmp_path):
    """Of three tasks: three traces, three ablations, and a knock-out for each method. The probe runs between them."""
    folder = copy_repository(tmp_path / "run", REDUCED)
    targets = [f"results/demo/evidence/knock-out/{method}/retrieval.safetensors" for method in REDUCED["methods"]]
    finish(folder, "--cores", "1", *targets)
    assert loads(folder) == [("demo", True)] + [("demo", False)] * 8
    files = [path.relative_to(folder) for pattern in FILES for path in folder.glob(f"results/demo/{pattern}")]
    assert len(files) == 3 + 9 + 9
    for file in files:
        assert (folder / file).read_bytes() == (finished / file).read_bytes(), file


def test_models_take_turns_once(tmp_path):
    """Two jobs of each model could start at any time, but those of the first come first."""
    one = INDEPENDENT["models"]["tiny"]
    models = {"one": one, "two": one | {"dtype": "bfloat16"}}
    folder = copy_repository(tmp_path / "run", INDEPENDENT | {"models": models})
    build_tiny(folder / "tiny")
    maps = [f"effects/ablation/{task}.layers-0-1.safetensors" for task in INDEPENDENT["tasks"]]
    finish(folder, "--cores", "1", *(f"results/{model}/{path}" for model in models for path in maps))
    assert loads(folder) == [(model, number == 0) for model in models for number in range(4)]
