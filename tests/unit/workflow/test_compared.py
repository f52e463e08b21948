"""What a model is compared with: a model of the config, or the folder of another run."""

import copy
import json
from dataclasses import replace

import pytest
from headatlas.errors import HeadAtlasError
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.compared import compared_with
from workflow_runs import REDUCED, ROOT

MODEL = REDUCED["models"]["demo"]


def atlas(**models) -> Atlas:
    return Atlas(copy.deepcopy(REDUCED) | {"models": {"demo": MODEL} | models}, ROOT)


def other_run(folder, metric="log_prob", **extra):
    """The folder of a finished run of two tasks by two methods, of which one file is gone."""
    made = ["items/inference.json", "balanced/retrieval.json", "items/retrieval.json"]
    made += ["effects/ablation/gone.safetensors"]
    tasks = ("inference", "retrieval")
    made += [f"effects/ablation/{task}.layers-{n}-{n}.safetensors" for task in tasks for n in (0, 1)]
    made += ["effects/attribution/inference.safetensors"]
    for name in made:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "effects/ablation/gone.safetensors").unlink()
    (folder / "manifest.json").write_text(json.dumps({"config": ["c.yaml"], "current": made, "earlier": []}))
    (folder / "provenance.json").write_text(json.dumps({"config": {"metric": metric}} | extra))
    return str(folder)


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_model_of_the_config():
    found = compared_with(atlas(other=MODEL | {"compare_to": "demo"}), "other")
    assert found.items["inference"] == "results/demo/items/inference.json"
    assert [*found.effects] == ["ablation", "attribution"]  # the probe learns from all items together
    assert "results/demo/effects/ablation/inference.layers-0-5.safetensors" in found.inputs()
    assert compared_with(atlas(), "demo") is None


def test_the_folder_of_another_run(tmp_path):
    folder = other_run(tmp_path / "results/base")
    found = compared_with(atlas(other=MODEL | {"compare_to": folder}), "other")
    assert found.items["inference"] == f"{folder}/items/inference.json"
    assert found.items["retrieval"] == f"{folder}/balanced/retrieval.json"
    # Attribution has no map of Retrieval there.
    assert found.effects == {"ablation": [f"{{task}}.layers-{n}-{n}.safetensors" for n in (0, 1)]}
    assert len(found.inputs()) == 4


@pytest.mark.parametrize(
    ("compare_to", "said"),
    [
        ("missing", "neither a model of this config nor a folder of results"),
        ("results/demo", "give the model's key 'demo'"),
    ],
)
def test_folders_that_cannot_be_compared(compare_to, said):
    with pytest.raises(HeadAtlasError, match=said):
        compared_with(atlas(other=MODEL | {"compare_to": compare_to}), "other")


def test_another_metric(tmp_path):
    folder = other_run(tmp_path, metric="margin")
    with pytest.raises(HeadAtlasError, match="has effects by metric: margin, this config by log_prob"):
        compared_with(atlas(other=MODEL | {"compare_to": folder}), "other")


def test_an_unfinished_run(tmp_path):
    folder = other_run(tmp_path)
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(HeadAtlasError, match="finish that run first"):
        compared_with(atlas(other=MODEL | {"compare_to": folder}), "other")


def test_other_tasks(tmp_path):
    folder = other_run(tmp_path)
    (tmp_path / "items/inference.json").unlink()
    for name in ("balanced", "items"):
        (tmp_path / name / "retrieval.json").unlink()
    with pytest.raises(HeadAtlasError, match="no map of the same method and task"):
        compared_with(atlas(other=MODEL | {"compare_to": folder}), "other")


def test_models_of_different_sizes():
    two = atlas(other=MODEL | {"compare_to": "demo"})
    two.geometry["other"] = replace(two.geometry["other"], n_layers=7)
    with pytest.raises(HeadAtlasError, match="'demo' has 6 layers of 8 heads, 'other' 7 layers of 8 heads"):
        compared_with(two, "other")


def test_the_model_itself():
    with pytest.raises(HeadAtlasError, match=r"models.demo.compare_to: names the model itself"):
        Atlas(copy.deepcopy(REDUCED) | {"models": {"demo": MODEL | {"compare_to": "demo"}}}, ROOT)
