"""What a log says while a job runs."""

import logging

import pytest
from headatlas.jobs.cli import log
from headatlas.jobs.progress import progress


class Lines(logging.Handler):
    """Keeps what is said."""

    def __init__(self):
        super().__init__()
        self.said: list[str] = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.fixture
def said(monkeypatch):
    """What the log gets."""
    lines = Lines()
    monkeypatch.setattr(log, "handlers", [lines])
    monkeypatch.setattr(log, "level", logging.INFO)
    log._cache.clear()
    return lines.said


def run(steps: list[tuple[float, int]], total: int) -> None:
    """A job that does so many units at so many seconds after its start."""
    now = [0.0]
    with progress("ablate", total, "items x heads", clock=lambda: now[0]) as advance:
        for seconds, done in steps:
            now[0] = seconds
            advance(done)


def test_a_log_gets_a_line_a_minute_with_rate_and_remaining_time(said):
    """600 in 60 s are 10 a second, so the other 4,200 take 7 minutes; the next line comes after another minute."""
    run([(30, 300), (60, 300), (90, 600), (119, 600), (120, 600), (480, 2400)], 4800)
    assert said == [
        "ablate: 600 of 4,800 items x heads (12 %), 10.0/s, 7 min left",
        "ablate: 2,400 of 4,800 items x heads (50 %), 20.0/s, 2 min left",
        "ablate: 4,800 of 4,800 items x heads (100 %), 10.0/s, 0 s left",
        "ablate: 4800 items x heads in 480.0 s, 10.0 items x heads/s",
    ]


def test_what_is_computed_anew_counts_anew(said):
    """35 in the 10 s since the other engine began: 65 more take 19."""
    run([(10, 50), (60, -50), (70, 35)], 100)
    assert said[0] == "ablate: 35 of 100 items x heads (35 %), 3.5/s, 19 s left"
