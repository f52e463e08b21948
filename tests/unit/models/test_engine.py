"""The engine that computes edited passes: when it gives way, how that is reported, and what is never accepted."""

import re

import numpy as np
import pytest
import torch
from families import VOCABULARY, plain_effect, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models import replay
from headatlas.models.batches import collate
from headatlas.models.engine import padding_matters, work_ratio
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.knock_out import knock_out
from headatlas.workflow.engine_record import noise_floors, rounding, slow_ways
from transformers import GPTNeoConfig, GPTNeoForCausalLM

ITEMS = [(9, 3), (5, 1), (12, 2), (5, 2)]
ZERO = np.zeros((1, 3, 4, 8), np.float32)
SETS = [[], [(0, 1)], [(1, 0), (2, 3)]]


class Renamed(torch.nn.Module):
    """A model whose forward takes its cache under another name, or not at all."""

    def __init__(self, inner: torch.nn.Module, name: str | None):
        super().__init__()
        self.inner, self.name, self.config = inner, name, inner.config
        self.known = HeadModel(inner, []).cache_name

    def get_input_embeddings(self):
        return self.inner.get_input_embeddings()

    def get_output_embeddings(self):
        return self.inner.get_output_embeddings()

    def forward(self, input_ids, attention_mask, use_cache=False, **options):
        cache = options.pop(self.name, None)
        if options:
            raise TypeError(f"unexpected argument {next(iter(options))}")
        given = {} if cache is None else {self.known: cache}
        output = self.inner(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache and self.name is not None, **given
        )
        kept = next((value for value in output.values() if type(value).__name__.endswith("Cache")), None)
        return Output({"logits": output.logits} | ({self.name: kept} if self.name and kept is not None else {}))


class Output(dict):
    """The part of a model's output that is used."""

    @property
    def logits(self):
        return self["logits"]


def replayed_llama(items: list[dict]) -> np.ndarray:
    return ablate_layers(find_heads(random_model("llama")), items, ZERO, range(3), "answer", 300, engine="replay")[0]


def renamed(name: str | None) -> HeadModel:
    return find_heads(Renamed(random_model("llama"), name), "renamed")


def test_the_cache_goes_by_the_name_under_which_the_model_returns_it():
    model = renamed("kept_for_later")
    assert model.cache_name == "kept_for_later"
    items = random_items(ITEMS)
    expected, _ = ablate_layers(
        find_heads(random_model("llama")), items, ZERO, range(3), "answer", 300, engine="replay"
    )
    effects, report = ablate_layers(model, items, ZERO, range(3), "answer", 300, engine="replay")
    assert report.engine == "replay"
    assert effects.tobytes() == expected.tobytes()


def test_a_model_that_keeps_no_keys_and_values_takes_full_passes_and_says_so():
    items = random_items(ITEMS)
    expected, _ = ablate_layers(
        find_heads(random_model("llama")), items, ZERO, range(3), "answer", 300, engine="replay"
    )
    effects, report = ablate_layers(renamed(None), items, ZERO, range(3), "answer", 300, engine="auto")
    assert (report.engine, report.reason) == (
        "hooked",
        "its attention layers write no keys and values to the given cache",
    )
    assert np.abs(effects - expected).max() < 1e-5
    assert report.checked > 0
    with pytest.raises(HeadAtlasError, match=r"^model renamed: compute\.engine: replay is not possible: its atten"):
        ablate_layers(renamed(None), items, ZERO, range(3), "answer", 300, engine="replay")


def test_all_positions_need_no_cache():
    _, report = ablate_layers(renamed(None), random_items(ITEMS), ZERO, range(3), "all", 300, engine="auto")
    assert (report.engine, report.reason) == ("replay", None)


@pytest.mark.parametrize("kind", ["flash_attention_2", "flex_attention"])
def test_attention_without_masks_is_refused_by_replay(kind):
    model = find_heads(random_model("llama"), "flash")
    model.model.config._attn_implementation = kind
    batch = collate(random_items(ITEMS), [0])
    with pytest.raises(replay.UnsupportedError, match=f"attn_implementation: {kind} accepts no custom mask"):
        replay.Replay(model, batch, "answer", range(3))


def test_a_layer_that_cannot_take_rows_is_a_reason_and_no_crash():
    """GPT-Neo keeps a mask as long as its context: rows behind a long prompt do not fit, though the prompt does."""
    config = GPTNeoConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=64, window_size=8,
        attention_types=[[["global", "local"], 1]],
    )  # fmt: skip
    torch.manual_seed(0)
    model = find_heads(GPTNeoForCausalLM(config).eval(), "neo")
    _, report = ablate_layers(
        model, random_items([(60, 3)]), np.zeros((1, 2, 4, 8), np.float32), range(2), "answer", 4096
    )
    assert report.engine == "hooked"
    assert re.match(r"its layer \d cannot run side-by-side rows: The size of tensor", report.reason)


def test_a_local_window_by_key_position_is_noticed():
    """Prompt 40, window 8: side-by-side rows push the prompt out of GPT-Neo's window; no error is raised."""
    config = GPTNeoConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=256, window_size=8,
        attention_types=[[["global", "local"], 1]],
    )  # fmt: skip
    torch.manual_seed(0)
    inner = GPTNeoForCausalLM(config).eval()
    for parameter in inner.parameters():
        parameter.data.mul_(3 if parameter.ndim > 1 else 1)
    model = find_heads(inner, "neo")
    items = random_items([(40, 3), (30, 2)])
    effects, report = ablate_layers(model, items, np.zeros((1, 2, 4, 8), np.float32), range(2), "answer", 4096)
    assert report.engine == "hooked"
    assert report.reason.startswith("replayed passes differ from plain ones by ")
    projection = model.attentions[1].projection
    truth = plain_effect(inner, projection, items[0], slice(16, 24), 0.0, "answer")
    assert effects[0, 1, 2] == pytest.approx(truth, abs=1e-5)


def looks_aside(monkeypatch) -> HeadModel:
    """A layer adds something that depends on the number of positions, which replay changes."""
    model = find_heads(random_model("llama"), "odd")
    layer = model.model.model.layers[1]
    plain = layer.forward

    def odd(hidden_states, *args, **kwargs):
        longer = 0.1 * max(0, hidden_states.shape[1] - 13)
        return plain(hidden_states, *args, **kwargs) + longer * torch.sign(hidden_states)

    monkeypatch.setattr(layer, "forward", odd)
    return model


@pytest.mark.parametrize("job", ["ablation", "knock-outs"])
def test_numbers_that_plain_passes_do_not_confirm_are_not_kept(job, monkeypatch):
    model, items = looks_aside(monkeypatch), random_items(ITEMS)

    def compute(engine):
        if job == "ablation":
            return ablate_layers(model, items, ZERO, range(3), "answer", 4096, engine=engine)[1]
        return knock_out(model, items, [[(0, head)] for head in range(4)] * 8, ZERO, "answer", 4096, engine=engine)[2]

    report = compute("auto")
    assert report.engine == "hooked"
    assert report.reason.startswith("replayed passes differ from plain ones by ")
    assert report.difference < 1e-5  # of what was kept
    with pytest.raises(HeadAtlasError, match=r"replay is not possible: replayed passes differ .* use engine: auto"):
        compute("replay")


def test_a_fault_of_the_engine_is_not_taken_for_a_model_that_does_not_fit(monkeypatch):
    def fault(*_, **__):
        raise KeyError("a fault of ours")

    monkeypatch.setattr(replay.Replay, "_run", fault)
    with pytest.raises(KeyError, match="a fault of ours"):
        ablate_layers(find_heads(random_model("llama")), random_items(ITEMS), ZERO, range(3), "answer", 300)


def follows_padding(monkeypatch) -> HeadModel:
    """As dynamic rotary embeddings do: what the model computes depends on the padded length of the batch."""
    model = find_heads(random_model("llama"), "stretching")
    embeddings = model.model.get_input_embeddings()
    plain = embeddings.forward
    monkeypatch.setattr(embeddings, "forward", lambda ids: plain(ids) * (1 + 0.05 * ids.shape[1]))
    return model


def test_where_padding_matters_only_items_of_one_length_share_a_batch(monkeypatch):
    model, items = follows_padding(monkeypatch), random_items(ITEMS)
    assert padding_matters(model, items)
    assert not padding_matters(model, items[:1])
    effects, report = ablate_layers(model, items, ZERO, range(3), "answer", 300, engine="auto")
    assert (report.engine, report.padded) == ("hooked", False)
    each = [ablate_layers(model, [item], ZERO, range(3), "answer", 300, engine="hooked")[0][0] for item in items]
    assert np.abs(effects - np.stack(each)).max() < 1e-5


def test_work_of_full_passes_by_hand():
    # One item of 9 + 3 - 1 = 11 positions, 3 layers of 4 heads: 13 full passes, or one and 4 rows of 3 answer positions
    # through 3, 2 and 1 layers.
    entries = [0] * 4 + [1] * 4 + [2] * 4
    model = find_heads(random_model("llama"))
    items = random_items([(9, 3)])
    assert work_ratio(model, items, "answer", entries) == pytest.approx(13 * 11 * 3 / (11 * 3 + 3 * 4 * (3 + 2 + 1)))
    assert work_ratio(model, items, "all", entries) == pytest.approx(13 * 3 / (3 + 4 * (3 + 2 + 1)))


def test_slow_ways_in_words():
    row = {"rule": "ablate_layers", "method": "ablation", "engine": "hooked", "work": 11.6, "padded": True}
    rows = [
        row | {"task": "b", "reason": "no cache"},
        row | {"task": "a", "reason": "no cache", "work": 12.4},
        row | {"task": "c", "reason": None},  # asked for
        row | {"task": "d", "engine": "replay", "reason": None},
    ]
    assert slow_ways(rows) == [
        "ablate_layers ran the whole model for every edit, 12 times the work of replay, on a, b: no cache"
    ]
    assert slow_ways(rows[2:]) == []


def test_rounding_in_words_and_by_task():
    row = {"rule": "ablate_layers", "method": "ablation", "engine": "replay", "checked": 8, "noise": 2e-6}
    rows = [
        row | {"task": "a"},
        row | {"task": "b", "noise": 3e-4},
        row | {"rule": "knock_out", "task": "a", "noise": 1e-7},
    ]
    assert noise_floors(rows) == {"a": 2e-6, "b": 3e-4}
    assert rounding(rows).startswith("Rounding: 24 of the numbers")
    assert "differ by 1e-07 to 0.0003 nats" in rounding(rows)
    assert rounding([row | {"task": "a", "noise": float("nan")}]) is None


@pytest.mark.parametrize("way", ["replay", "hooked"])
def test_why_a_model_computes_in_half_precision_is_reported_by_both_engines(way):
    model = find_heads(random_model("llama"))
    model.half_because = "a reason"
    _, report = ablate_layers(model, random_items(ITEMS), ZERO, range(3), "answer", 300, engine=way)
    assert (report.engine, report.half_because) == (way, "a reason")
