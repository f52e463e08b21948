"""The one exception a user may see, and how to find its message in logs."""

import re
from contextlib import suppress
from pathlib import Path


class HeadAtlasError(Exception):
    """Something the user can fix; the message names the file, line or key, what is wrong, and what to do."""


def said_by_jobs(log: str) -> list[str]:
    """The reasons that a run's failed jobs gave, from the run's log and theirs; each once."""
    reasons = {}
    for file in re.findall(r"^    log: (.+) \(check log file", log, re.MULTILINE):
        with suppress(OSError):
            lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
            reasons |= dict.fromkeys(line for line in lines if line.startswith("error: "))
    return list(reasons)
