"""Limits terminal output to what a person reads, and ends a run with where to look; the log file keeps everything.

A run of two tiny models prints 210 KB by default. Snakemake's own `--quiet` also hides errors, so this module gives its
two handlers another filter while the Snakefile is read. Standard library only: events are identified by name.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

TERMINAL, FILE = "DefaultStreamHandler", "DefaultLogFileHandler"  # Snakemake's names
UNREAD = ("workflow_started", "resources_info", "job_started", "job_finished", "shellcmd", "group_info")
CHATTER = ("Building DAG", "Conda environments:", "Select jobs", "Singularity containers:", "Using shell:")
PROGRESS_LINES = 20  # of a run, at most


class Terminal(logging.Filter, logging.Formatter):
    """Filter and formatter of the terminal's handler, applied before Snakemake's own.

    Errors always pass.

    Args:
        handler: the terminal's.
        brief: show only the plan, a line for each long job (one that runs the model), progress, warnings, and messages
            outside Snakemake's routine.
    """

    def __init__(self, handler: logging.Handler, brief: bool):
        logging.Filter.__init__(self)
        self._handler, self._brief = handler, brief
        self._filters, self._formatter = list(handler.filters), handler.formatter
        self._shown = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown."""
        if record.levelno >= logging.ERROR:
            return True
        wanted = all(each.filter(record) for each in self._filters)
        return wanted and (not self._brief or record.levelno > logging.INFO or self._is_read(record))

    def format(self, record: logging.LogRecord) -> str:
        """A message as shown: a job in one line, everything else as in Snakemake."""
        if not self._brief or _event(record) != "job_info":
            return self._formatter.format(record)
        values = ", ".join(f"{name} {value}" for name, value in record.wildcards.items())
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"[{clock}] {record.rule_name}" + (f": {values}" if values else "")

    def _is_read(self, record: logging.LogRecord) -> bool:
        event = _event(record)
        if event == "job_info":
            self._handler.last_msg_was_job_info = True  # otherwise the handler prints an empty line before each
            return "device" in dict(record.resources.items())  # its rule runs the model or trains a probe
        if event == "progress":
            twentieth = PROGRESS_LINES * record.done // max(record.total, 1)
            self._shown, before = max(twentieth, self._shown), self._shown
            return twentieth > before
        return event not in UNREAD and not str(record.msg).startswith(CHATTER)


def tidy(logger: logging.Logger, brief: bool) -> None:
    """Set up the handlers of Snakemake's logger, except those of its logger plugins."""
    for handler in logger.handlers:
        if handler.name == FILE:
            for each in handler.filters:
                each.quiet = ()  # errors are looked up there
        if handler.name == TERMINAL:
            terminal = Terminal(handler, brief)
            handler.filters = [terminal]
            handler.setFormatter(terminal)


class NothingToDo(logging.Handler):
    """Calls `then` when Snakemake has nothing to do, because it then skips its hooks."""

    def __init__(self, then: Callable[[], None]):
        super().__init__()
        self._then = then

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a message."""
        if str(record.msg).startswith("Nothing to be done"):
            self._then()


def last_words(
    models: Sequence[str], evidence: bool, outdated: Sequence[Path], reusable: Sequence[Path], command: str
) -> list[str]:
    """Print where the results of a run are, and which files in results/ do not belong to its config.

    Args:
        evidence: whether findings are written.
        outdated, reusable: as from `manifest.left_over`; command: the command that removes them.
    """
    findings = ", findings in results/{0}/findings.md" if evidence else ""
    said = [f"{model}: figures in results/{{0}}/figures/{findings}".format(model) for model in models]
    if len(models) > 1 and evidence:
        said.append("The models compared: results/comparison/")
    said += ["Everything on one page: results/index.html"] if models else []
    kept = f"{len(reusable)} intermediate files and logs are kept for reuse" if reusable else ""
    if outdated:
        named = ", ".join(map(str, outdated[:3])) + (f" and {len(outdated) - 3} more" if len(outdated) > 3 else "")
        tail = f" ({kept})" if kept else ""
        said.append(f"Of an earlier config, not of this one: {named}. To remove them: {command}{tail}")
    elif kept:
        said.append(f"Of an earlier config, {kept}. To remove them: {command} --reusable")
    return said


def _event(record: logging.LogRecord) -> str | None:
    return getattr(record, "event", None)
