"""Forks use what the fork server prepares, and jobs of a worker what an earlier job loaded."""

import re
import weakref

from headatlas.jobs import cli, shared


def test_a_fork_says_what_loading_said_and_shares_the_value(monkeypatch, caplog):
    monkeypatch.setattr(shared, "_held", {})
    calls = []

    @shared.shared
    def load(settings: dict) -> object:
        calls.append(settings["path"])
        cli.log.warning("%s is odd", settings["path"])
        return object()

    with caplog.at_level("WARNING", "headatlas"):
        load.prepare({"path": "a"})
        load.prepare({"path": "a"})
        caplog.clear()
        first, second = load({"path": "a"}), load({"path": "a"})
    assert first is second
    assert caplog.messages == ["a is odd", "a is odd"]
    load({"path": "b"})
    assert calls == ["a", "b"]
    for path in ("c", "d"):  # two are held: the oldest makes room
        load.prepare({"path": path})
    load({"path": "a"})
    load({"path": "d"})
    assert calls == ["a", "b", "c", "d", "a"]


def test_a_worker_holds_the_last_value_and_frees_it_before_it_loads_another(monkeypatch, caplog):
    monkeypatch.setattr(shared, "_held", {"load ...": "of the fork server"})
    monkeypatch.setattr(shared, "_holds_one", False)
    alive = weakref.WeakSet()

    class Value:
        def __init__(self):
            self.itself = self  # freed by a garbage collection only

    @shared.shared
    def load(settings: dict) -> object:
        cli.log.warning("%s is odd, beside %d", settings["path"], len(alive))
        alive.add(value := Value())
        return value

    shared.hold_one()
    with caplog.at_level("WARNING", "headatlas"):
        for path in "aabba":
            assert load({"path": path}) in alive
    assert caplog.messages == [f"{path} is odd, beside 0" for path in "aabba"]
    assert len(alive) == 1
    shared.let_go()
    assert len(alive) == 0
    with caplog.at_level("DEBUG", "headatlas"):
        load({"path": "a"})
    assert re.fullmatch(r"load: \d+\.\d s", caplog.messages[-1])
