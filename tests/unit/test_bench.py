"""The benchmark measures what it claims: sides that do the same work, memory of one side, the pipeline's settings."""

import sys

import bench
import end_to_end
import interval_coverage
import numpy as np
import others
import pytest
import real_weights
from headatlas.config.check import load_schema
from headatlas.files.knock_outs import KnockOut, Target, write_knock_out
from headatlas.models.batches import collate
from headatlas.stats.head_statistics import head_statistics


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_ours_and_hooked_passes_do_the_same_work(positions):
    case = f"ablation {positions} 2x2"
    ours, plain = (bench.make_side(case, name, [])(False) for name in ("ours", "plain"))
    assert ours.shape == plain.shape == (bench.ITEMS, 2, 2)
    assert 0 < bench.difference(ours, plain, case) < 1e-5
    assert np.abs(plain).max() > 1e-2
    with pytest.raises(SystemExit, match=r"results differ by 0\.5 nats"):
        bench.difference(ours, ours + 0.5, case)


def test_the_fastest_of_several_rounds_counts_and_slow_sides_run_once(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(bench.time, "process_time", lambda: clock[0])

    def side(name, durations):
        def run(short):
            calls.append((name, short))
            clock[0] += 1000 if short else durations.pop(0)
            return name

        return run

    done = bench.interleaved({"fast": side("fast", [5, 1, 2]), "slow": side("slow", [31])}, 3)
    assert {name: (one.seconds, one.found) for name, one in done.items()} == {"fast": (1, "fast"), "slow": (31, "slow")}
    rounds = [("fast", False), ("slow", False), ("fast", False), ("fast", False)]
    assert calls == [("fast", True), ("slow", True), *rounds]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_memory_is_what_a_side_takes_beyond_what_was_there():
    kept = [bytearray(64 << 20)]
    bytearray(300 << 20)  # was there before, and is not any more

    def side(_short):
        kept.append(bytearray(40 << 20))
        bytearray(100 << 20)

    assert bench.measured(side).peak_mb == pytest.approx(140, abs=3)


def test_sides_on_real_weights_do_the_same_work(monkeypatch):
    """On a random Llama in the place of SmolLM2: hooked passes of three heads, ours of all."""
    monkeypatch.setattr(real_weights, "load", lambda *_given: others.llama(17, 4, 32))
    monkeypatch.setitem(real_weights.LENGTHS, "smollm2 two", [(9, 3), (7, 2)])
    monkeypatch.setattr(real_weights, "items_of", within)
    ours, plain = (real_weights.side_of("smollm2 two", name, "")(False) for name in ("ours", "plain"))
    assert np.isfinite(plain).sum() == 2 * 3
    assert 0 < bench.difference(ours, plain, "smollm2 two") < 1e-5
    with pytest.raises(SystemExit, match="results differ"):
        bench.difference(ours + 0.5, plain, "smollm2 two")


def test_checks_that_a_job_runs_once_by_hand():
    """Of four items of 96 tokens: 7 passes over two of them, where all need a pass and 9 x 465 rows of one token."""
    passes, rows = 96 * 30, 9 * 465
    assert real_weights.growing_layers(within([(96, 1)] * 4), "answer", paired=False) == 4 * (passes + rows)
    once = 14 * passes / (14 * passes + 4 * (passes + rows))
    assert real_weights.share_once("smollm2 answer, 1 token") == pytest.approx(once)


def within(lengths):
    """Items of the random Llama's vocabulary, which has 512 tokens."""
    made = [others.make_items(1, prompt, answer, 512, seed)[0] for seed, (prompt, answer) in enumerate(lengths)]
    return [item | {"id": str(row), "question_id": str(row)} for row, item in enumerate(made)]


def test_the_floor_runs_the_positions_that_the_numbers_need():
    """Of three items of 7 tokens and 2 answer positions: 2 layers whole, and rows of 2 heads through 2 layers and 1."""
    model, seen = others.llama(2, 2, 32), []
    for attention in model.attentions:
        attention.layer.register_forward_hook(lambda _module, args, _output: seen.append(args[0].shape[:-1].numel()))
    batch = collate(others.make_items(3, 6, 2, 512), [0, 1, 2])
    others.answer_floor(model, batch)
    assert sum(seen) == 3 * (7 * 2 + 2 * (2 * 2 + 2 * 1))
    seen.clear()
    others.rows_floor(model, batch, [0, 5])
    assert sum(seen) == 3 * 2 * 5


def test_knock_outs_of_a_run_enter_at_their_lowest_layer_and_equal_ones_once(tmp_path):
    """Two sources knock out the same pair and a head each on task b; on task a the first alone, and no head."""
    folder = tmp_path / "evidence/knock-out/ablation"
    folder.mkdir(parents=True)
    pair, low, high = ([[1, 0], [0, 1]], [[0, 0]], [[1, 1]])
    sets = {"a": [[], pair, low], "b": [pair, high]}
    for source, heads in sets.items():
        on_b = Target(np.arange(len(heads))[-2:], *(np.zeros((2, 1), kind) for kind in (np.float32, np.uint8)), [0])
        on_a = Target(np.arange(1), *(np.zeros((1, 1), kind) for kind in (np.float32, np.uint8)), [0])
        about = [{"kind": "out", "heads": each} for each in heads]
        targets = {"b": on_b} | ({"a": on_a} if source == "a" else {})
        write_knock_out(folder / f"{source}.safetensors", KnockOut("ablation", source, 1, about, targets, {}))
    model = others.llama(2, 2, 32)
    assert end_to_end.knock_out_rows(model, tmp_path / "items/b.json") == [[2, 1]]
    assert end_to_end.knock_out_rows(model, tmp_path / "items/a.json") == [[0, 0]]


def test_settings_are_the_pipelines():
    keys = load_schema()["properties"]
    probe = keys["methods"]["properties"]["probe"]["properties"]
    assert {name: key["default"] for name, key in probe.items()} == bench.PROBE
    assert keys["compute"]["properties"]["batch_tokens"]["default"] == bench.BATCH_TOKENS


def test_pipeline_runs_all_three_methods():
    rows = bench.pipeline_rows(others.llama(2, 2, 32), 2, 12, 6, 2, (3.0, 60.0))
    assert [row["name"] for row in rows] == [
        "2x2x16, 2 tasks x 12 items x 8 tokens: minutes",
        "  of which trace",
        "  of which attribution",
        "  of which ablation",
        "  of which probe",
    ]
    assert rows[0]["bar"] == 3.0


def test_original_recipe_learns_a_plain_signal():
    """Two classes that one head separates easily; the recipe can fail on hard ones."""
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 30)
    outputs = rng.normal(size=(60, 1, 2, 4)).astype(np.float32)
    outputs[:, 0, 1] += 4 * labels[:, None] - 2
    importance, predicted = others.original_probe(outputs, labels, np.arange(60) >= 40, 8, 8)
    assert (predicted == labels[40:]).mean() == 1
    assert importance.shape == (20, 1, 2)


def test_planted_outputs_hold_the_classes_in_six_heads():
    outputs, labels, questions = others.planted_outputs()
    assert outputs.shape == (512, 8, 8, 32)
    assert len(set(questions)) == 512
    means = np.stack([outputs[labels == label].mean(0) for label in range(8)])
    between = means.std(0).mean(-1) / outputs.std(0).mean(-1)  # noise alone: 1 / sqrt(64)
    assert (between > 0.2).sum() == 6


# ----- the study of intervals


def test_empirical_likelihood_by_hand():
    """Ten each of -1 and 2 with mean 0: weights 2/3 and 1/3, and so 10 times -2 log(4 * 2/9) = 0.2356."""
    x = np.tile([-1.0, 2.0], (1, 10))
    sample = interval_coverage.Sample.of(x, np.random.default_rng(0))
    assert 10 * 0.2356 < 2.093**2  # so zero is kept
    assert interval_coverage.likelihood_covers(sample, 0.0).all()
    assert not interval_coverage.likelihood_covers(sample, -0.3).any()  # weights 0.767, 0.233: 10 * 0.672 = 6.7
    assert not interval_coverage.likelihood_covers(sample, 2.1).any()  # beyond all data


def test_the_studys_interval_is_the_one_in_use_and_its_median_is_the_binomials():
    x = np.random.default_rng(0).gamma(1, size=(5, 30))
    sample = interval_coverage.Sample.of(x, np.random.default_rng(0))
    low, high = interval_coverage.in_use(sample)
    found = head_statistics(x.T, np.arange(30), confidence=0.95)
    assert low == pytest.approx(found.ci_low, rel=1e-12)
    assert high == pytest.approx(found.ci_high, rel=1e-12)
    low, high = interval_coverage.median(sample)
    ordered = np.sort(x, axis=1)
    # The 10th and the 21st of 30 hold the median with a chance of 0.957.
    assert (low.tolist(), high.tolist()) == (ordered[:, 9].tolist(), ordered[:, 20].tolist())


def test_carriers_by_hand():
    # Kurtosis of one among ten: n over it is 1.12 = (9 * 0.01 + 0.81)^2 / (9 * 0.0001 + 0.6561); half and half: n.
    assert interval_coverage.carrying(np.eye(10)[0]) == pytest.approx(0.9**2 / 0.657)
    assert interval_coverage.carrying(np.array([0.0, 1] * 5)) == pytest.approx(10)
