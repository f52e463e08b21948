"""Forks use what the fork server prepares."""

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
