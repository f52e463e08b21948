"""Models that bitsandbytes has quantised to 8 or 4 bits: the same numbers as their expanded weights give in float32."""

import json
import sys

import numpy as np
import pytest
import torch
from families import random_items
from headatlas.errors import HeadAtlasError
from headatlas.models import folder
from headatlas.models.batches import collate
from headatlas.models.folder import read_geometry
from headatlas.models.head_model import find_heads
from headatlas.models.loading import load_model
from headatlas.models.quantised import expanded, is_quantised
from headatlas.scoring.ablation import ablate_layers
from headatlas.scoring.trace import trace_batch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

SIZES = {
    "vocab_size": 97, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
WAYS = {
    "8 bits": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4 computed in bfloat16": {"load_in_4bit": True, "bnb_4bit_compute_dtype": "bfloat16"},
}
ITEMS = random_items([(9, 3), (5, 1), (12, 2)])


def quantised(path, way: str) -> str:
    """A random Llama, quantised and saved."""
    pytest.importorskip("bitsandbytes", reason="quantises the model")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)
    model.save_pretrained(path / "whole")
    options = {"quantization_config": BitsAndBytesConfig(**WAYS[way]), "device_map": "cpu"}
    AutoModelForCausalLM.from_pretrained(path / "whole", **options).save_pretrained(path / "quantised")
    return str(path / "quantised")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("way", WAYS)
def test_numbers_are_those_of_the_expanded_weights(way, dtype, tmp_path):
    """transformers itself expands the weights; heads are proven and ablated in both models, gradients taken."""
    path = quantised(tmp_path, way)
    model = load_model({"path": path, "dtype": dtype})
    assert model.half_because is None
    assert model.arithmetic == torch.float32
    assert model.attentions[0].projection.weight.dtype in (torch.int8, torch.uint8)
    plain = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, device_map="cpu").dequantize()
    kept = dict(model.model.named_parameters())
    for name, weight in plain.named_parameters():
        if "proj" not in name:  # embeddings and the output layer, which are not quantised but in `dtype`
            weight.data = kept[name].detach().as_subclass(torch.Tensor).float()
    whole = find_heads(plain)
    batch = collate(ITEMS, [0, 1, 2])
    logits, truth = (each.logits(batch.input_ids, batch.attention_mask) for each in (model, whole))
    assert (logits - truth).abs().max() < 1e-4
    for ours, theirs in zip(model.attentions, whole.attentions, strict=True):
        assert torch.equal(ours.weight.float(), theirs.weight)
    traced, plainly = (trace_batch(each, batch, gradients=True) for each in (model, whole))
    for name, value in plainly.items():
        assert torch.allclose(traced[name].float(), value.float(), atol=1e-4), name
    zero = np.zeros((1, 3, 4, 32), np.float32)
    effects, report = ablate_layers(model, ITEMS, zero, range(3), "answer", 300, engine="replay")
    expected, _ = ablate_layers(whole, ITEMS, zero, range(3), "answer", 300, engine="replay")
    assert report.engine == "replay"
    assert np.abs(effects - expected).max() < (1e-4 if dtype == "float32" else 1e-2)
    assert np.abs(effects).max() > 0.1


def test_a_backward_pass_keeps_no_expanded_weights(tmp_path):
    model = load_model({"path": quantised(tmp_path, "8 bits"), "dtype": "float32"})
    matrices = {expanded(module).numel() for module in model.model.modules() if is_quantised(module)}
    assert matrices == {128 * 128, 128 * 64, 128 * 192}
    kept = set()
    with torch.autograd.graph.saved_tensors_hooks(lambda value: kept.add(value.numel()) or value, lambda value: value):
        trace_batch(model, collate(ITEMS, [0]), gradients=True)
    assert kept
    assert not matrices & kept


@pytest.mark.parametrize("config", [{"quant_method": "bitsandbytes"}, {"load_in_4bit": True}])
def test_without_bitsandbytes_such_a_model_is_refused_before_any_job(config, monkeypatch, tmp_path):
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 4, "quantization_config": config}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    monkeypatch.setattr(folder, "find_spec", lambda _name: None)
    with pytest.raises(HeadAtlasError) as refused:
        read_geometry({"path": str(tmp_path)})
    assert str(refused.value) == (
        f"{tmp_path}: its weights are quantised by bitsandbytes, which {sys.executable} does not have; install it "
        "there (pip install 'bitsandbytes>=0.50'), or write the model once where it is installed: "
        f"AutoModelForCausalLM.from_pretrained('{tmp_path}').dequantize().save_pretrained('new-folder')"
    )
    monkeypatch.setattr(folder, "find_spec", lambda name: name)
    assert read_geometry({"path": str(tmp_path)}).n_layers == 2
