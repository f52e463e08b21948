"""Settings that a script gets as JSON, and messages about unknown keys."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from headatlas.jobs import cli


@dataclass(frozen=True)
class Settings:
    """seed: of the draws."""

    tasks: list[str]
    seed: int | None = None


@pytest.fixture
def given():
    """A script, and what it was called with."""
    calls = []

    def main(settings: Settings, table: Path) -> None:
        calls.append((settings, table))

    return main, calls


def test_settings_are_read_from_json(given):
    main, calls = given
    cli.run(main, ["--settings", '{"tasks": ["a"]}', "--table", "t"])
    cli.run(main, ["--settings", '{"seed": 3, "tasks": []}', "--table", "t"])
    assert calls == [(Settings(["a"]), Path("t")), (Settings([], 3), Path("t"))]


@pytest.mark.parametrize(
    ("json", "says"),
    [
        ('{"tsks": []}', "error: --settings: 'tsks' is unknown, 'tasks' is missing; it takes tasks, seed\n"),
        ('{"tasks": [], "x": 1}', "error: --settings: 'x' is unknown; it takes tasks, seed\n"),
        ('["tasks"]', "error: --settings: must be a JSON object with tasks, seed\n"),
    ],
)
def test_other_keys_are_said_in_one_line_before_anything_runs(json, says, given, capsys):
    main, calls = given
    with pytest.raises(SystemExit) as end:
        cli.run(main, ["--settings", json, "--table", "t"])
    assert (end.value.code, capsys.readouterr().err, calls) == (1, says, [])


def test_help_names_the_settings_and_their_types(given, capsys):
    with pytest.raises(SystemExit):
        cli.run(given[0], ["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "an object with tasks (list[str]), seed (int | None). seed: of the draws." in said
