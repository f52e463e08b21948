# Shared by all rules: the checked config, and how scripts are called.

import atexit
import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.exceptions import ApiError
from snakemake.utils import update_config


class Mistake(ApiError):
    """A mistake that the user can fix: Snakemake prints only the message, not where these files noticed it."""

    __traceback__ = property(lambda self: None, lambda self, place: None)


if find_spec("fcntl") is None:
    raise Mistake("Head Atlas runs on Linux and macOS, whose locks and forks it uses; on Windows run it in WSL.")

here = workflow.current_basedir.get_path_or_uri(secret_free=False)
REPOSITORY = Path(here).parents[1]
if not REPOSITORY.is_dir():
    raise Mistake(f"{here}: Head Atlas has to be on this disk; clone it and name its Snakefile.")
scripts = REPOSITORY / "scripts"
sys.path.insert(0, str(scripts))

from headatlas.config.overrides import read_values
from headatlas.config.check import check_config_file
from headatlas.workflow.compared import compared_with
from headatlas.workflow.digests import is_large
from headatlas.workflow.engine_record import read_records, slow_ways
from headatlas.errors import HeadAtlasError, said_by_jobs
from headatlas.workflow.manifest import COMPARISON, begin, by_folder, check_owner, finish, left_over
from headatlas.workflow.atlas import Atlas
from headatlas.workflow.files import METHOD_OF_RULE, Files
from headatlas.workflow.fingerprint import fingerprint, fingerprints
from headatlas.workflow.index_page import write_index
from headatlas.workflow.inputs import Inputs, large_digests
from headatlas.workflow.recovery import check_folders, check_writable, recover
from headatlas.workflow.resources import Requests, tokens_of_longest
from headatlas.workflow.settings import origin, settings_of
from headatlas.workflow.slurm import advise, cancel_leftovers, check_requests
from headatlas.workflow.targets import MAPS, Targets
from headatlas.workflow.terminal import NothingToDo, last_words, tidy
from headatlas.jobs.fork_server import Server

# A workflow that uses this one as a module provides the config and controls the terminal.
in_module = workflow.modifier.skip_configfile
in_charge = workflow.is_main_process and not in_module

# --verbose, --printshellcmds and dry runs show all of Snakemake's output.
shown = workflow.output_settings
if in_charge:
    tidy(logger, brief=not (shown.dryrun or shown.verbose or shown.printshellcmds or shown.debug_dag))

# A file given with --configfile stands alone. By default Snakemake would merge it with the demo's and keep the demo's
# model and tasks; --replace-workflow-config prevents that, but does not reach jobs on a cluster.
if not workflow.overwrite_configfiles and not in_module:
    try:
        check_config_file(Path("config/config.yaml"))  # if it is not YAML, Snakemake would print a traceback
    except HeadAtlasError as error:
        raise Mistake(str(error))

    configfile: "config/config.yaml"


# `headatlas NAME ...` in a rule's command runs scripts/NAME.py. The paths of Python and the scripts are here and not in
# the command, which Snakemake compares, so the same workflow in another folder recomputes nothing. The script replaces
# the shell as Snakemake's own child and gets Snakemake's process id, so it ends when Snakemake is killed. Jobs on this
# machine are forks of a server that has already imported their libraries.
own_python = "conda" not in map(str, workflow.deployment_settings.deployment_method)
server = Server() if own_python and in_charge else None
python = [sys.executable if own_python else "python"]
if server:
    atexit.register(server.stop)
    python += ["-IS", str(scripts / "headatlas" / "jobs" / "fork_client.py"), server.address]
call = f'headatlas() {{ HEADATLAS_PARENT=$PPID exec {shlex.join(python)} {shlex.quote(str(scripts))}/"$1.py" "${{@:2}}"; }}; '
shell.prefix(call.replace("{", "{{").replace("}", "}}"))  # Snakemake fills in braces

on_command_line = workflow.config_settings.config
update_config(config, read_values({key: value for key, value in on_command_line.items() if key in config}))
try:
    atlas = Atlas(config, REPOSITORY, [] if in_module else workflow.configfiles)
    compared = {model: compared_with(atlas, model) for model in atlas.models}
    folders = [Path("results", name) for name in (*atlas.models, *([COMPARISON] if atlas.compares_models else []))]
    studied = [os.path.relpath(file) for file in workflow.configfiles]
    check_folders(["results", *map(str, folders)])
    if in_charge:
        for folder in folders:
            check_owner(folder, studied)
except HeadAtlasError as error:
    raise Mistake(str(error))

inputs, files, targets = Inputs(atlas), Files(atlas), Targets(atlas)
on_this_machine = workflow.resource_settings.nodes is None
asks = Requests(atlas, on_this_machine, workflow.resource_settings.cores)

# A machine with N GPUs runs N GPU jobs at once; --resources gpu=M overrides this, and SLURM counts its own GPUs.
if on_this_machine and asks.gpus:
    workflow.global_resources.setdefault("gpu", asks.gpus)

# Jobs on this machine together take no more memory than compute.memory; --resources mem_mb=M overrides this.
if on_this_machine:
    workflow.global_resources.setdefault("mem_mb", asks.total_mb)

# Resources of jobs that run the model or train the probe. None of them changes a result, so Snakemake need not track
# them.
RUNS_MODEL = {
    "gpu": lambda wildcards: asks.job_gpus(wildcards.model),
    "mem_mb": lambda wildcards, input, attempt: asks.memory_mb(
        wildcards.model, attempt, longest=tokens_of_longest(input.get("prepared", []))
    ),
    "device": lambda wildcards: asks.device(wildcards.model),
    "batch_tokens": lambda wildcards, attempt: asks.batch_tokens(attempt),
}

RUNS_BACKWARD = RUNS_MODEL | {
    "mem_mb": lambda wildcards, input, attempt: asks.memory_mb(
        wildcards.model, attempt, backward=True, longest=tokens_of_longest(input.get("prepared", []))
    ),
}

TRAINS_PROBE = {
    "gpu": lambda wildcards: asks.probe_gpus(wildcards.model),
    "device": lambda wildcards: asks.probe_device(wildcards.model),
}


def first_models_first(wildcards):
    """Priority of jobs that run a model and of those they wait for: model by model, since each change is a load."""
    return len(atlas.models) - list(atlas.models).index(wildcards.model)


def settings(rule):
    """The part of the config for a rule's script: its row of `headatlas.workflow.settings.TABLE`."""
    return lambda wildcards: settings_of(atlas, rule, dict(wildcards.items()))


def by_content(files):
    """The user's input files, compared by content instead of timestamp; see `large_digests`."""
    return [ancient(file) if is_large(file) else file for file in files]


def task_source(wildcards):
    """A task's files. Every plan requests some, before Snakemake looks for incomplete outputs."""
    if in_charge:
        recover(workflow)
    return by_content(inputs.source(wildcards.task))


def tokenizer(wildcards):
    """Files of the tokenizer that a job reads."""
    return by_content(inputs.tokenizer(wildcards.model))


def weights(wildcards):
    """Files of the model that a job runs."""
    return by_content(inputs.weights(wildcards.model))


def weights_digests(wildcards):
    """Digests of the model's large files."""
    return large_digests(inputs.weights(wildcards.model))


def in_report(path, caption, category="Tables", labels=None):
    """An output in `snakemake --report`, under its category and model."""
    subcategory = "{model}" if "{model}" in path else "comparison"
    return report(path, f"../report/{caption}.rst", category, subcategory, labels=labels or {"table": Path(path).stem})


def chart_labels(wildcards):
    """Name of a figure in the report's list."""
    figure, _, method = wildcards.chart.partition(".")
    return {"figure": figure, "method": method or "all"}


def drawn_images(folder):
    """A figure's images; the report holds one of them."""
    paths = [f"{folder}/{{chart}}.{form}" for form in targets.formats]
    shown = targets.formats.index(targets.reported)
    paths[shown] = in_report(paths[shown], "figure", "Figures", chart_labels)
    return paths


def planned():
    """All files of the plan, existing or not, by folder."""
    made = (file for job in workflow.dag.jobs for file in (*job.output, *job.log))
    return by_folder(made, folders)


def close_run():
    """Report jobs that used the slow engine; record which files belong to the config; print where they are and what is
    left over.

    A run with explicit targets only reports.
    """
    for model in atlas.models:
        for sentence in slow_ways(read_records(map(Path, files.engine_records(model)))):
            logger.warning(f"{model}: {sentence}.")
    if not any(job.rule.name == "all" for job in workflow.dag.jobs):
        return
    try:
        finish(Path("results"), planned(), studied)
        write_index(Path("results"), REPOSITORY / "workflow/report/index.html.j2")
    except HeadAtlasError as error:  # such as a read-only folder: the results exist all the same
        logger.warning(str(error))
    left = left_over(Path("results"), studied)
    command = f"python {os.path.relpath(scripts / 'clean_results.py')}"
    for line in last_words([*atlas.models], atlas.tells_evidence, *left, command):
        logger.info(line)


if in_charge and not shown.dryrun:
    logger.addHandler(NothingToDo(close_run))


wildcard_constraints:
    model="|".join(map(re.escape, atlas.models)),
    task="|".join(atlas.tasks),
    method="|".join(atlas.methods),
    ranking="|".join(atlas.rankings),
    layer=r"\d+",
    first=r"\d+",
    last=r"\d+",


onstart:
    try:
        check_writable()
        reads = [job.wildcards for job in workflow.dag.needrun_jobs() if job.rule.name.startswith("prepare_")]
        inputs.check_tasks((wildcards.model, wildcards.task) for wildcards in reads)
        submits = workflow.executor_plugin.name == "slurm"
        if left := cancel_leftovers(Path(workflow.persistence.path), submits):
            logger.warning(f"Jobs that a killed run had left on SLURM were cancelled: {', '.join(left)}.")
        if submits:
            check_requests(job.resources for job in workflow.dag.needrun_jobs() if not job.is_local)
        begin(planned(), studied)
    except HeadAtlasError as error:
        raise Mistake(str(error))
    if server:
        server.start(scripts)


onsuccess:
    close_run()


onerror:
    said = "".join(Path(file).read_text(encoding="utf-8") for file in log)
    for line in (*said_by_jobs(said), *advise(said)):
        logger.error(line)
