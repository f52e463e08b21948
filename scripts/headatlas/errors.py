"""The one exception a user may see: a mistake in what was given, said in one line; and how it is found again."""

import re
from contextlib import suppress
from pathlib import Path


class HeadAtlasError(Exception):
    """Something the user can mend; the message names the file, line or key, what is wrong, and what to do."""


def said_by_jobs(log: str) -> list[str]:
    """What the jobs that failed in a run gave as their reason, as told by the run's log and theirs; each once."""
    reasons = {}
    for file in re.findall(r"^    log: (.+) \(check log file", log, re.MULTILINE):
        with suppress(OSError):
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
            reasons |= dict.fromkeys(line for line in lines if line.startswith("error: "))
    return list(reasons)
