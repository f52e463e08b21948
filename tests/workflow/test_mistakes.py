"""What a user who made a mistake sees of a real run: one clear line, no traceback, and every result as it was."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from headatlas.errors import HeadAtlasError, said_by_jobs
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.inputs import Inputs
from headatlas.workflow.recovery import check_folders
from safetensors.torch import load_file, save_file
from workflow_runs import INDEPENDENT, ROOT, snakemake, write_config

TASK = "config/tasks/retrieval.jsonl"
OTHER = "config/tasks/inference.jsonl"


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every result; not of logs, which a job begins anew."""
    files = (path for path in (folder / "results").rglob("*") if path.is_file() and "logs" not in path.parts)
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def append(path: Path, line: bytes) -> None:
    path.write_bytes(path.read_bytes() + line)


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit) -> None:
    file = folder / "tiny/model.safetensors"
    weights = load_file(file)
    edit(weights)
    save_file(weights, file, metadata={"format": "pt"})


def two_bad_files(folder: Path) -> None:
    append(folder / TASK, b"{\n")
    append(folder / OTHER, b'{"prompt": "x", "answr": "y"}\n')


def other_data(folder: Path) -> None:
    (folder / "c.json").write_text('[{"question": "Q", "generated": []}]')
    tasks = INDEPENDENT["tasks"] | {"retrieval": {"source": "c.json"}}
    write_config(folder, INDEPENDENT | {"tasks": tasks})


def misspelt(folder: Path) -> None:
    write_config(folder, INDEPENDENT | {"figurs": {}, "statistics": {"resamples": 1}})


def only_gguf(folder: Path) -> None:
    (folder / "tiny/model.safetensors").rename(folder / "tiny/tiny.Q8_0.gguf")


BEFORE_ANY_JOB = {
    "two mistakes in the config": (
        misspelt,
        [
            r"figurs: unknown key; did you mean 'figures'\?",
            "statistics.resamples: must be a whole number from 100 to 1000000, got 1",
        ],
    ),
    "a config that is not UTF-8": (
        lambda folder: append(folder / "config/config.yaml", b"# \xff"),
        [r"config/config.yaml: is not UTF-8 text \(byte \d+\); save it as UTF-8"],
    ),
    "two tasks' files": (
        two_bad_files,
        [
            rf"{OTHER}:\d+: unknown key 'answr'; did you mean 'answer'\?",
            rf"{TASK}:\d+: is not valid JSON: Expecting .*",
        ],
    ),
    "a CogQA file": (other_data, ["c.json: question 1: generated must be a list of at least one subquestion"]),
    "a tokenizer cut short": (
        lambda folder: (folder / "tiny/tokenizer.json").write_text('{"model": '),
        [r"tiny/tokenizer.json: is not valid JSON \(Expecting value.*\); get the file again"],
    ),
    "weights of fewer layers": (
        lambda folder: edit_json(folder / "tiny/config.json", num_hidden_layers=4),
        ["tiny: config.json names 4 layers, but the weights hold no layer 2 .*; get both of the same model"],
    ),
    "other names of prompt and answer": (
        lambda folder: (folder / TASK).write_text('{"question": "x", "target": "y"}\n'),
        [rf"{TASK}:1: prompt and answer are missing; rename the key 'question' to prompt and 'target' to answer"],
    ),
    "a task's name as a reader would write it": (
        lambda folder: write_config(folder, INDEPENDENT | {"tasks": {"Math-QA": {"source": TASK}}}),
        [r"tasks.Math-QA: the name must be lower-case letters, .* \(any other name .* goes under figures.labels\)"],
    ),
    "a folder of GGUF weights": (
        only_gguf,
        [r"tiny: its weights are in GGUF files; name the one to take \(path: tiny/tiny.Q8_0.gguf\)"],
    ),
    "a GGUF file": (
        lambda folder: write_config(folder, INDEPENDENT | {"models": {"tiny": {"path": "gone/tiny.gguf"}}}),
        [r"gone/tiny.gguf: there is no such file \(looked in .*\)"],
    ),
    "a package that is not installed": (
        lambda folder: write_config(folder, INDEPENDENT | {"models": {"tiny": {"path": "package://gone/tiny.gguf"}}}),
        [r"models.tiny.path: package://gone/tiny.gguf: there is no Python package 'gone' for .*; install it there .*"],
    ),
    "quantised weights": (
        lambda folder: edit_json(folder / "tiny/config.json", quantization_config={"quant_method": "awq"}),
        [r"tiny: its weights are quantised \(awq\); give the model in float32, bfloat16 or float16"],
    ),
    "a recurrent model": (
        lambda folder: edit_json(
            folder / "tiny/config.json", architectures=["Mamba2ForCausalLM"], model_type="mamba2", num_heads=8
        ),
        ["tiny: a mamba2 model has no attention, thus no heads to map; give a transformer"],
    ),
    "an encoder": (
        lambda folder: edit_json(folder / "tiny/config.json", architectures=["BertForMaskedLM"]),
        ["tiny: is a BertForMaskedLM, not a causal language model; give one that AutoModelForCausalLM loads"],
    ),
}


@pytest.mark.parametrize("mistake", BEFORE_ANY_JOB)
def test_a_mistake_is_said_before_any_job(mistake, independent, tmp_path):
    folder = shutil.copytree(independent, tmp_path / "mein Lauf ü", symlinks=True)
    make, lines = BEFORE_ANY_JOB[mistake]
    make(folder)
    before = state(folder)
    done = snakemake(folder)
    assert done.returncode == 1
    said = re.split("^Error: ", done.stdout, maxsplit=1, flags=re.MULTILINE)[1].splitlines()
    said = [line for line in said if line and not line.startswith(("Complete log", "Elapsed time"))]
    for line, expected in zip(said, lines, strict=True):
        assert re.fullmatch(expected, line)
    assert "Traceback" not in done.stdout
    assert not re.search("^(local)?rule ", done.stdout, re.MULTILINE)
    assert state(folder) == before


def test_lists_tables_and_keys_and_spaces_of_other_collections_are_taken(fresh, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "run")
    entries = [json.loads(line) for line in (folder / TASK).read_text().splitlines()]
    listed = [entry | {"category": "c", "prompt": entry["prompt"] + " "} for entry in entries]
    (folder / "list.json").write_text(json.dumps(listed, indent=1))
    with open(folder / "table.csv", "w", newline="") as file:
        rows = csv.DictWriter(file, fieldnames=[*entries[0]])
        rows.writeheader()
        rows.writerows(entries)
    sources = {"lines": TASK, "list": "list.json", "table": "table.csv"}
    write_config(folder, INDEPENDENT | {"tasks": {name: {"source": source} for name, source in sources.items()}})
    wanted = [f"results/tiny/items/{name}.json" for name in sources]
    done = snakemake(folder, *wanted)
    assert done.returncode == 0, done.stdout
    assert f"\nlist.json: {len(listed)} prompts end in a space; the space was moved to the front of" in done.stdout
    lined, other, table = (json.loads((folder / file).read_text())["items"] for file in wanted)
    assert table == lined
    moved = [item | {"answer": " " + item["answer"], "extra": {"category": "c"}} for item in lined]
    for one, expected in zip(other, moved, strict=True):
        assert one["prompt_ids"] == expected["prompt_ids"]
        assert {**one, "answer_ids": 0} == {**expected, "answer_ids": 0}


SNAKEMAKES_OWN = {  # read before this project's first line: their last lines say what is wrong
    "a config file that is not there": (["--configfile", "gone.yaml"], "No such file or directory: 'gone.yaml'"),
    "a config file that is not YAML": (["--configfile", "bad.yaml"], "Config file is not valid JSON or YAML."),
    "a value without =": (["--config", "compute"], "name=value pairs. (Unparsable value: 'compute')"),
}


@pytest.mark.parametrize("mistake", SNAKEMAKES_OWN)
def test_what_snakemake_reads_itself_ends_with_what_is_wrong(mistake, fresh, tmp_path):
    options, said = SNAKEMAKES_OWN[mistake]
    (tmp_path / "bad.yaml").write_text("models: [")
    (tmp_path / "workflow").mkdir()
    shutil.copy(fresh / "Snakefile", tmp_path)
    done = snakemake(tmp_path, *options)
    assert done.returncode == 1
    assert said in "".join(done.stdout.strip().splitlines()[-2:])


def test_a_file_where_results_need_a_folder_is_told(fresh, tmp_path):
    folder = shutil.copytree(fresh, tmp_path / "run")
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results/tiny").symlink_to("nowhere")
    done = snakemake(folder)
    assert done.stdout == (
        f"Error: {folder}/results/tiny: is a broken link, but results need a folder there; move it away\n"
    )
    (folder / "results/tiny").unlink()
    shutil.rmtree(folder / "results")
    (folder / "results").write_text("")
    with pytest.raises(HeadAtlasError, match=f"^{folder}/results: is a file, but results need a folder there; move it"):
        check_folders([str(folder / "gone"), str(folder), str(folder / "results")])


def test_what_only_the_weights_can_tell_is_the_last_word_of_the_run(independent, tmp_path):
    folder = shutil.copytree(independent, tmp_path / "run", symlinks=True)
    edit_weights(folder, lambda weights: weights["model.layers.1.mlp.down_proj.weight"].fill_(float("nan")))
    before = state(folder)
    done = snakemake(folder, "--quiet", "all")  # which never hides an error
    assert done.returncode == 1
    reason = "error: model tiny: the logits of a probe sequence are not finite; the weights hold NaN or infinity"
    assert done.stdout.rindex(reason) > done.stdout.rindex("Error in rule trace_task")
    assert "Traceback" not in done.stdout
    lost = before.keys() - state(folder).keys()
    assert lost <= {f"results/tiny/trace/{task}.safetensors" for task in INDEPENDENT["tasks"]}


def test_items_of_all_tasks_are_checked_before_a_model_runs(fresh, independent, tmp_path):
    (log,) = (independent / ".snakemake/log").iterdir()
    whole = log.read_text(encoding="utf-8")
    assert whole.rindex("\nlocalrule prepare_task:") < whole.index("\nlocalrule trace_task:")
    folder = shutil.copytree(fresh, tmp_path / "run")
    silent = {"type": "Replace", "pattern": {"String": "~"}, "content": ""}
    edit_json(folder / "tiny/tokenizer.json", normalizer=silent)
    append(folder / TASK, b'{"prompt": "the cat", "answer": "~"}\n')
    done = snakemake(folder, "--cores", "1")
    assert done.returncode == 1
    assert "] trace_task:" not in done.stdout
    last = done.stdout[done.stdout.rindex("\nerror: ") :].strip().splitlines()[0]
    assert re.fullmatch(rf"error: {TASK}:\d+: the answer '~' has no tokens in this model's tokenizer; change .*", last)


def test_what_jobs_said_is_found_by_the_log_of_the_run(tmp_path):
    for name, lines in {"a": "read 3 items\nerror: x.jsonl:3: is bad\n", "b ü": "error: x.jsonl:3: is bad\n"}.items():
        (tmp_path / f"{name}.log").write_text(lines, encoding="utf-8")
    block = "Error in rule r:\n    jobid: 1\n    log: {} (check log file(s) for error details)\n    shell: x\n"
    said = "".join(block.format(tmp_path / f"{name}.log") for name in ("a", "b ü", "gone"))
    assert said_by_jobs(said) == ["error: x.jsonl:3: is bad"]
    assert said_by_jobs("log: nothing failed") == []


def test_mistakes_of_all_planned_tasks_and_only_theirs(tmp_path, monkeypatch, fresh):
    folder = shutil.copytree(fresh, tmp_path / "run")
    monkeypatch.chdir(folder)
    two_bad_files(folder)
    inputs = Inputs(Atlas(INDEPENDENT, ROOT))
    with pytest.raises(HeadAtlasError) as error:
        inputs.check_tasks([("tiny", "retrieval"), ("tiny", "inference")])
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == [OTHER, TASK]
    with pytest.raises(HeadAtlasError, match=rf"^{TASK}:\d+: is not valid JSON.*$"):
        inputs.check_tasks([("tiny", "retrieval")])
    inputs.check_tasks([])
