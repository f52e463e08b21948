"""Old results next to new ones, two configs in one folder, and the terminal output of a run."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from headatlas.errors import HeadAtlasError
from headatlas.workflow.manifest import Manifest, begin, by_folder, check_owner, finish, left_over, read, remove
from headatlas.workflow.terminal import Terminal, last_words
from workflow_runs import INDEPENDENT, copy_run, environment, snakemake, write_config
from workflow_runs import finish as finish_run

OURS = ["config/config.yaml"]


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(files: list[Path], results: Path) -> list[str]:
    return [str(file.relative_to(results)) for file in files]


# --- what belongs to a config -----------------------------------------------------------------------


def test_only_what_a_plan_named_and_no_plan_names_now_is_left_over(tmp_path):
    folder = tmp_path / "m"
    old = ["figures/grid.svg", "figures/grid.html", "scores/probe/t/layer-0.parquet", "evidence/a.safetensors"]
    make(folder, *old, "figures/mine.svg")
    begin({folder: [*old, "figures/never-made.svg"]}, OURS)
    finish(tmp_path, {folder: [*old, "figures/never-made.svg"]}, OURS)
    assert left_over(tmp_path) == ([], [])

    begin({folder: ["figures/grid.svg"]}, OURS)
    assert left_over(tmp_path) == ([], [])  # until a run of the whole has come to its end
    finish(tmp_path, {folder: ["figures/grid.svg"]}, OURS)
    outdated, reusable = left_over(tmp_path, OURS)
    assert names(outdated, tmp_path) == ["m/figures/grid.html"]
    assert names(reusable, tmp_path) == ["m/evidence/a.safetensors", "m/scores/probe/t/layer-0.parquet"]
    assert left_over(tmp_path, ["other.yaml"]) == ([], [])

    finish(tmp_path, {folder: old}, OURS)  # taken back
    assert left_over(tmp_path) == ([], [])


def test_the_folder_of_a_model_that_was_taken_out_is_left_over_but_not_that_of_another_config(tmp_path):
    for model in ("gone", "theirs", "here"):
        make(tmp_path / model, "importance.csv", "trace/t.safetensors")
    files = ["importance.csv", "trace/t.safetensors"]
    finish(tmp_path, {tmp_path / "gone": files, tmp_path / "here": files}, OURS)
    finish(tmp_path, {tmp_path / "theirs": files}, ["other.yaml"])
    assert left_over(tmp_path) == ([], [])
    finish(tmp_path, {tmp_path / "here": files}, OURS)
    outdated, reusable = left_over(tmp_path)
    assert (names(outdated, tmp_path), names(reusable, tmp_path)) == (
        ["gone/importance.csv"],
        ["gone/trace/t.safetensors"],
    )
    assert read(tmp_path / "theirs").current == ["importance.csv", "trace/t.safetensors"]


def test_removing_takes_empty_folders_along_and_leaves_the_users_files(tmp_path):
    for model in ("a", "b"):
        make(tmp_path / model, "figures/grid.svg", "logs/x.log")
        finish(tmp_path, {tmp_path / model: ["figures/grid.svg", "logs/x.log"]}, OURS)
    make(tmp_path / "b", "figures/mine.svg")
    finish(tmp_path, {}, OURS)
    outdated, reusable = left_over(tmp_path)
    remove(tmp_path, outdated + reusable)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "b", "b/figures", "b/figures/mine.svg"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "", "figures"])
def test_an_edited_manifest_cannot_reach_out_of_its_folder(name, tmp_path):
    make(tmp_path / "results/m", "figures/a.svg")
    make(tmp_path / "results", "secret")
    manifest = {"config": OURS, "current": [], "earlier": [name]}
    (tmp_path / "results/m/manifest.json").write_text(json.dumps(manifest))
    assert left_over(tmp_path / "results") == ([], [])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1, "current": [], "earlier": []}', "\xff"])
def test_a_broken_manifest_counts_as_none(text, tmp_path):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    assert read(tmp_path) is None


def test_files_are_named_from_their_folders(tmp_path):
    files = ["results/a/x/y.json", "results/ab/z.csv", "results/vega.js", "elsewhere/a/b"]
    assert by_folder(files, [Path("results/a"), Path("results/ab")]) == {
        Path("results/a"): ["x/y.json"], Path("results/ab"): ["z.csv"]
    }  # fmt: skip


# --- two configs ------------------------------------------------------------------------------------


def test_a_folder_of_another_config_is_refused_as_long_as_that_names_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, both = Path("results/llama"), Path("results/comparison")
    finish(Path("results"), {folder: ["a"], both: ["a"]}, ["a.yaml"])
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"models": {"llama": {}, "gpt": {}}}))
    check_owner(folder, ["a.yaml"])
    with pytest.raises(HeadAtlasError) as error:
        check_owner(folder, ["b.yaml"])
    assert str(error.value) == (
        "results/llama: holds results of a.yaml, with which those of b.yaml would mix; give the model another name "
        "than 'llama' in one of them, or run one of them with --directory FOLDER"
    )
    with pytest.raises(HeadAtlasError, match=r"would mix; run one of them with --directory FOLDER$"):
        check_owner(both, ["b.yaml"])
    for said in (yaml.safe_dump({"models": {"gpt": {}}}), "models: [", "- a", ""):
        (tmp_path / "a.yaml").write_text(said)
        check_owner(folder, ["b.yaml"])
        check_owner(both, ["b.yaml"])
    (tmp_path / "a.yaml").unlink()  # renamed
    check_owner(folder, ["b.yaml"])
    check_owner(Path("results/new"), ["b.yaml"])
    begin({folder: ["b"]}, ["b.yaml"])  # what is taken over is still known to be a's
    assert read(folder) == Manifest(["b.yaml"], ["a", "b"], [])


def test_a_run_with_another_config_on_the_same_model_stops(independent, tmp_path):
    folder = copy_run(independent, tmp_path / "run")
    other = INDEPENDENT | {"tasks": {"math_calculation": {"source": "config/tasks/math_calculation.jsonl"}}}
    (folder / "other.yaml").write_text(yaml.safe_dump(other))
    done = snakemake(folder, "--configfile", "other.yaml", "--dry-run")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "Error: results/tiny: holds results of config/config.yaml, with which those of other.yaml would mix; give the "
        "model another name than 'tiny' in one of them, or run one of them with --directory FOLDER"
    )
    other["models"] = {"again": INDEPENDENT["models"]["tiny"]}
    (folder / "other.yaml").write_text(yaml.safe_dump(other))
    assert "results/again/importance.csv" in finish_run(folder, "--configfile", "other.yaml", "--dry-run")


# --- a run and its end ------------------------------------------------------------------------------


def clean(folder: Path, *options: str, answer: str = "") -> str:
    command = [sys.executable, "scripts/clean_results.py", *options]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        input=answer,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == (0 if answer or "--yes" in options or "nothing to remove" in done.stdout else 1)
    return done.stdout


def test_a_run_ends_with_what_its_config_no_longer_makes_and_one_command_removes_it(independent, tmp_path):
    folder = copy_run(independent, tmp_path / "run")
    assert clean(folder) == "results: nothing to remove\n"
    make(folder / "results/tiny/figures", "mine.svg")
    write_config(
        folder, INDEPENDENT | {"figures": {"formats": ["html"]}, "methods": {"ablation": {"baseline": "zero"}}}
    )
    said = finish_run(folder).splitlines()
    figures = "results/tiny/figures"
    where = "tiny: figures in results/tiny/figures/"
    assert where in said
    kept = 2 + 4 + 2 + 4 + 2 + 2  # attribution: effects, scores, and logs of both and of drawing and rendering
    assert (
        f"Of an earlier config, not of this one: {figures}/heatmap-grid.ablation.svg, "
        f"{figures}/heatmap-grid.attribution.json, {figures}/heatmap-grid.attribution.svg and 3 more. To remove them: "
        f"python scripts/clean_results.py ({kept} intermediate files and logs are kept for reuse)"
    ) in said

    before = sorted(path for path in (folder / "results").rglob("*") if path.is_file())
    assert clean(folder).splitlines()[-1].endswith("error: no answer; give --yes to remove without asking")
    assert clean(folder, answer="n\n").endswith("Nothing was removed.\n")
    assert sorted(path for path in (folder / "results").rglob("*") if path.is_file()) == before
    listed = clean(folder, answer="y\n").splitlines()
    assert listed[:6] == [
        f"{figures}/{name}"
        for name in (
            "heatmap-grid.ablation.svg", "heatmap-grid.attribution.json", "heatmap-grid.attribution.svg",
            "signed-grid.ablation.svg", "signed-grid.attribution.json", "signed-grid.attribution.svg",
        )
    ]  # fmt: skip
    assert listed[-1].endswith("6 files removed")
    after = {path for path in (folder / "results").rglob("*") if path.is_file()}
    assert {*before} - after == {folder / name for name in listed[:6]}

    said = finish_run(folder)  # nothing to do, but the closing lines are printed all the same
    assert "Nothing to be done" in said
    assert where in said.splitlines()
    assert "not of this one" not in said
    clean(folder, "--reusable", "--yes")
    kept = {path for path in (folder / "results").rglob("*") if path.is_file()}
    assert folder / figures / "mine.svg" in kept
    assert not any("attribution" in str(path) or "attribute" in str(path) for path in kept)
    assert "Nothing to be done" in finish_run(folder)


def test_the_terminal_keeps_to_what_a_person_reads_and_the_log_keeps_all(independent):
    shown = (independent / "run.txt").read_text(encoding="utf-8")
    (log,) = (independent / ".snakemake/log").iterdir()
    whole = log.read_text(encoding="utf-8")
    for routine in ("rule prepare_task:", "reason:", "Select jobs", "Finished jobid", "SNAKEMAKE"):
        assert routine not in shown
        assert routine in whole
    assert re.search(r"^(\d+) of \1 steps \(100%\) done$", shown, re.MULTILINE)
    for line in ("] trace_task: model tiny, task retrieval\n", "Job stats:\n"):
        assert line in shown
    assert shown.count("steps (") <= 20
    assert "\ntiny: figures in results/tiny/figures/\n" in shown


def test_verbose_options_show_all(independent, tmp_path):
    folder = copy_run(independent, tmp_path / "run")
    (folder / "results/tiny/figures/signed-grid.ablation.svg").unlink()
    said = finish_run(folder, "--printshellcmds")
    assert "rule render_figure:" in said
    assert "headatlas render_figure --log" in said


class Recorder(logging.Handler):
    """Shows what passes."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def emit(self, record):
        self.shown.append(self.format(record))


def say(handler: logging.Handler, level: int = logging.INFO, message: str = "", **fields) -> None:
    record = logging.makeLogRecord({"levelno": level, "msg": message} | fields)
    if handler.filter(record):
        handler.emit(record)


def test_progress_is_told_twenty_times_at_most_and_errors_always():
    handler = Recorder()
    handler.setFormatter(SimpleNamespace(format=lambda record: record.msg or f"{record.done}"))
    handler.addFilter(SimpleNamespace(filter=lambda record: record.msg != "quiet"))
    terminal = Terminal(handler, brief=True)
    handler.filters = [terminal]
    handler.setFormatter(terminal)
    for done in range(1, 1001):
        say(handler, event="progress", done=done, total=1000)
    assert handler.shown == [str(done) for done in range(50, 1001, 50)]
    handler.shown.clear()
    for message in ("Select jobs to execute...", "quiet", "Trying to restart job 3."):
        say(handler, message=message)
    say(handler, logging.WARNING, "careful")
    say(handler, logging.ERROR, "quiet", event="job_error")
    assert handler.shown == ["Trying to restart job 3.", "careful", "quiet"]


def test_last_words_of_several_models():
    files = [Path(f"results/a/{n}.svg") for n in range(5)]
    assert last_words(["a", "b"], True, [], [], "clean") == [
        "a: figures in results/a/figures/, findings in results/a/findings.md",
        "b: figures in results/b/figures/, findings in results/b/findings.md",
        "The models compared: results/comparison/",
        "Everything on one page: results/index.html",
    ]
    assert last_words([], False, files, files[:2], "clean") == [
        "Of an earlier config, not of this one: results/a/0.svg, results/a/1.svg, results/a/2.svg and 2 more. To "
        "remove them: clean (2 intermediate files and logs are kept for reuse)"
    ]
    assert last_words([], False, [], files, "clean") == [
        "Of an earlier config, 5 intermediate files and logs are kept for reuse. To remove them: clean --reusable"
    ]
