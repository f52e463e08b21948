"""A model for which replay does not work: what a whole run reports, and where a run that requires replay stops."""

import json
import re

import pytest
from workflow_runs import INDEPENDENT, build_tiny, copy_repository, copy_run, finish, snakemake, write_config

# A Llama that keeps no keys and values for anybody.
MODELING = """
from transformers import LlamaConfig, LlamaForCausalLM


class ForgetfulConfig(LlamaConfig):
    model_type = "forgetful"


class ForgetfulForCausalLM(LlamaForCausalLM):
    config_class = ForgetfulConfig

    def forward(self, input_ids, attention_mask=None, use_cache=None, logits_to_keep=0):
        return super().forward(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, logits_to_keep=logits_to_keep
        )
"""
REASON = "its attention layers write no keys and values to the given cache"


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A folder ready to map such a model with the evidence, and its config."""
    config = INDEPENDENT | {
        "models": {"forgetful": {"path": "forgetful", "device": "cpu", "trust_remote_code": True}},
        "items": {"max_items": 12},
        "methods": {"ablation": {}},
        "evidence": {"draws": 2, "rankings": 4, "halves": 10},
    }
    config["tasks"] = {task: {"source": f"config/tasks/{task}.jsonl"} for task in ("retrieval", "inference")}
    folder = copy_repository(tmp_path_factory.mktemp("slow") / "run", config)
    build_tiny(folder / "forgetful")
    (folder / "forgetful/modeling_forgetful.py").write_text(MODELING)
    described = json.loads((folder / "forgetful/config.json").read_text())
    described |= {
        "model_type": "forgetful",
        "architectures": ["ForgetfulForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_forgetful.ForgetfulConfig",
            "AutoModelForCausalLM": "modeling_forgetful.ForgetfulForCausalLM",
        },
    }
    (folder / "forgetful/config.json").write_text(json.dumps(described))
    return folder, config


@pytest.fixture(autouse=True)
def modules_of_its_own(tmp_path, monkeypatch):
    """transformers copies a model's code to a cache, where the runs of two tests would write one file at once."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_a_slow_run_says_so_on_the_terminal_in_provenance_and_findings(forgetful, tmp_path):
    folder = copy_run(forgetful[0], tmp_path / "run")
    said = finish(folder)
    sentence = re.findall(r"^forgetful: (.+ ran the whole model .+)$", said, re.MULTILINE)
    assert len(sentence) == 1, said[-3000:]
    told = re.fullmatch(
        r"ablate_layers and knock_out ran the whole model for every edit, (\d+) times the work of replay, "
        rf"on inference, retrieval: {REASON}\.",
        sentence[0],
    )
    assert told, sentence
    rows = json.loads((folder / "results/forgetful/provenance.json").read_text())["engines"]
    assert {(row["rule"], row["task"]) for row in rows} == {
        (rule, task) for rule in ("ablate_layers", "knock_out") for task in ("retrieval", "inference")
    }
    assert {(row["engine"], row["reason"]) for row in rows} == {("hooked", REASON)}
    assert round(max(row["work"] for row in rows)) == int(told[1])
    findings = (folder / "results/forgetful/findings.md").read_text()
    assert findings.splitlines()[2] == f"**Slow:** {sentence[0]}"


def test_where_replay_is_asked_for_the_run_stops_with_one_line(forgetful, tmp_path):
    folder = copy_run(forgetful[0], tmp_path / "run")
    write_config(folder, forgetful[1] | {"compute": {"engine": "replay"}})
    run = snakemake(folder)
    assert run.returncode == 1
    said = re.findall(r"^error: (.+)$", run.stdout, re.MULTILINE)
    assert said, run.stdout[-3000:]
    assert all(
        re.fullmatch(
            rf"model forgetful: compute\.engine: replay is not possible: {REASON}; use engine: auto, which runs "
            r"the whole model for every edit \(\d+ times the work\)",
            line,
        )
        for line in said
    ), said
