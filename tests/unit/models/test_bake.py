"""Heads taken away for good: the folder's numbers equal plain hooks, written without the library, on the original."""

import json
import shutil

import pytest
import torch
from families import FAMILIES, plain_log_prob, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models.bake import bake, check_heads, spread
from headatlas.models.batches import collate
from headatlas.models.head_model import find_heads
from headatlas.models.hooked import scores_of_sets
from headatlas.models.replacement import VectorBaseline
from safetensors.torch import save_file
from script_runs import run_script
from transformers import AutoModelForCausalLM, AutoTokenizer
from workflow_runs import ROOT

HEADS = [(0, 1), (2, 3), (2, 0)]
ITEMS = random_items([(9, 3), (5, 1), (12, 2), (5, 2), (7, 1)])
BIASED = {"gpt2": None, "gpt_neox": None, "opt": None, "llama": "attention_bias", "gemma2": "attention_bias"}
BIASED |= {"falcon": "bias"}  # the key of the config that gives the output projections a bias; None if they have one
DEMO = ROOT / "workflow/resources/demo-model"


def saved(folder, family):
    """A random model in a folder, with a file in place of a tokenizer; its heads; and a vector for each of `HEADS`."""
    model = random_model(family)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    heads = find_heads(model, family)
    vectors = torch.randn(len(HEADS), heads.d_head, generator=torch.Generator().manual_seed(1))
    return {"path": str(folder)}, heads, vectors


def hooked_log_prob(heads, item, vectors) -> float:
    """Answer log-probability when `HEADS` output these vectors at all positions, by plain hooks on the projections."""
    handles = []
    for layer in {layer for layer, _ in HEADS}:

        def replace(_module, args, layer=layer):
            z = args[0].clone()
            for vector, (edited, head) in zip(vectors, HEADS, strict=True):
                if edited == layer:
                    z.view(-1, z.shape[-1])[:, head * heads.d_head : (head + 1) * heads.d_head] = vector
            return (z, *args[1:])

        handles.append(heads.attentions[layer].projection.register_forward_pre_hook(replace))
    with torch.no_grad():
        found = float(plain_log_prob(heads.model, item))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("mode", ["zero", "mean"])
@pytest.mark.parametrize("family", BIASED)
def test_the_folder_equals_hooks(family, mode, tmp_path):
    settings, heads, vectors = saved(tmp_path / "model", family)
    place, check = bake(settings, HEADS, vectors if mode == "mean" else None, ITEMS, tmp_path / "baked")
    config = json.loads((tmp_path / "baked/config.json").read_text())
    assert (BIASED[family] or "") in place or mode == "zero"
    assert BIASED[family] is None or config[BIASED[family]] is (mode == "mean")
    assert check.items == 4
    assert check.difference < 1e-5
    assert check.change > 1e-2
    baked = AutoModelForCausalLM.from_pretrained(tmp_path / "baked", dtype=torch.float32)
    outputs = vectors if mode == "mean" else torch.zeros_like(vectors)
    table = torch.zeros(1, heads.n_layers, heads.n_heads, heads.d_head)
    for vector, (layer, head) in zip(outputs, HEADS, strict=True):
        table[0, layer, head] = vector
    for index, item in enumerate(ITEMS):
        with torch.no_grad():
            found = float(plain_log_prob(baked, item))
        assert found == pytest.approx(hooked_log_prob(heads, item, outputs), abs=1e-5)
        batch = collate(ITEMS, [index])
        replacement = VectorBaseline(table.numpy()).on(heads, batch, "all", range(heads.n_layers))
        ours = float(scores_of_sets(heads, batch, [HEADS], replacement, "all")[0])
        assert found == pytest.approx(ours, abs=1e-5)
        assert abs(found - float(plain_log_prob(heads.model, item))) > 1e-4


@pytest.mark.parametrize("family", ["qwen2", "mistral", "phi3"])
def test_a_family_without_such_a_bias_holds_zero_but_no_mean(family, tmp_path):
    settings, _, vectors = saved(tmp_path / "model", family)
    assert bake(settings, HEADS, None, ITEMS, tmp_path / "zero")[1].difference < 1e-5
    with pytest.raises(HeadAtlasError, match=r"no key of its config gives them one, .* set the mode to zero"):
        bake(settings, HEADS, vectors, ITEMS, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_half_precision_holds_zero_exactly_and_refuses_a_rounded_mean(tmp_path):
    settings, _, vectors = saved(tmp_path / "model", "llama")
    settings |= {"dtype": "bfloat16"}
    assert bake(settings, HEADS, None, ITEMS, tmp_path / "zero")[1].difference < 1e-5
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "zero", dtype="auto")
    assert {weight.dtype for weight in kept.parameters()} == {torch.bfloat16}
    with pytest.raises(HeadAtlasError, match="rounded to bfloat16: set the model's dtype to float32"):
        bake(settings, HEADS, vectors, ITEMS, tmp_path / "mean")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["model", "zero"]


@pytest.mark.parametrize(
    ("heads", "width", "said"),
    [
        ([], None, "names no head to take away"),
        ([(3, 0)], None, r"has no head 3\.0 \(its 3 layers have 4 heads each"),
        ([(0, -1)], None, r"has no head 0\.-1"),
        ([(1, 2), (1, 2)], None, r"names head 1\.2 twice"),
        ([(1, 2)], 7, "should have the shape 1 x 8, but have 1 x 7"),
    ],
)
def test_refuses_lists_that_do_not_fit(heads, width, said, tmp_path):
    settings, _, _ = saved(tmp_path / "model", "llama")
    vectors = None if width is None else torch.zeros(len(heads), width)
    with pytest.raises(HeadAtlasError, match=said):
        bake(settings, heads, vectors, ITEMS, tmp_path / "baked")


def own_keys(family: str) -> torch.nn.Module:
    """A random model of a family whose heads have keys of their own, with matrices as in `random_model`."""
    config = FAMILIES[family]()
    config.num_key_value_heads = config.num_attention_heads
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)
    return model


EACH = [(0, 1), (1, 3), (2, 0)]  # one head of each layer
TWO = [*EACH, (0, 2), (1, 0), (2, 3)]
LEFT = {"llama": 2, "qwen3": 3, "gemma2": 2, "mistral": 3}  # a Llama's hidden size, 32, is a multiple of 2 but not of 3


@pytest.mark.parametrize(
    ("family", "mode"),
    [(family, mode) for family in LEFT for mode in ("zero", "mean") if (family, mode) != ("mistral", "mean")],
)  # a Mistral has no bias for means
def test_a_pruned_model_is_smaller_and_equals_hooks(family, mode, tmp_path, monkeypatch):
    gone, left = (EACH if LEFT[family] == 3 else TWO), LEFT[family]
    monkeypatch.setitem(globals(), "HEADS", gone)  # of `hooked_log_prob`
    model = own_keys(family)
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").write_text("{}")
    heads = find_heads(model, family)
    vectors = torch.randn(len(gone), heads.d_head, generator=torch.Generator().manual_seed(3))
    settings, outputs = {"path": str(tmp_path / "model")}, vectors if mode == "mean" else torch.zeros_like(vectors)
    given = vectors if mode == "mean" else None
    _, check = bake(settings, gone, given, ITEMS, tmp_path / "pruned", pruned=True)
    assert check.difference < 1e-5 < 1e-2 < check.change
    pruned = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", dtype=torch.float32)
    attention = pruned.model.layers[0].self_attn
    assert (pruned.config.num_attention_heads, pruned.config.num_key_value_heads) == (left, left)
    assert {name: tuple(getattr(attention, name).weight.shape) for name in ("q_proj", "v_proj", "o_proj")} == {
        "q_proj": (left * heads.d_head, 32), "v_proj": (left * heads.d_head, 32), "o_proj": (32, left * heads.d_head),
    }  # fmt: skip
    for item in ITEMS:
        with torch.no_grad():
            found = float(plain_log_prob(pruned, item))
        assert found == pytest.approx(hooked_log_prob(heads, item, outputs), abs=1e-5)
    assert json.loads((tmp_path / "pruned/baked.json").read_text())["pruned"] is True


def test_half_precision_is_pruned_too(tmp_path):
    own_keys("llama").save_pretrained(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").write_text("{}")
    settings = {"path": str(tmp_path / "model"), "dtype": "bfloat16"}
    assert bake(settings, TWO, None, ITEMS, tmp_path / "pruned", pruned=True)[1].difference < 1e-5
    kept = AutoModelForCausalLM.from_pretrained(tmp_path / "pruned", dtype="auto")
    assert {weight.dtype for weight in kept.parameters()} == {torch.bfloat16}


def test_says_which_numbers_of_heads_a_family_accepts(tmp_path):
    own_keys("llama").save_pretrained(tmp_path / "model")
    settings = {"path": str(tmp_path / "model")}
    with pytest.raises(HeadAtlasError, match=r"with 3 heads: .*\(32\) is not a multiple of .* heads \(3\)\.; take"):
        bake(settings, EACH, None, ITEMS, tmp_path / "pruned", pruned=True)


@pytest.mark.parametrize(
    ("family", "heads", "said"),
    [
        ("opt", HEADS, "each must lose as many, and not all; layer 1 would lose 0, layer 2 2; list as many"),
        ("opt", [(layer, head) for layer in range(3) for head in range(4)], "layer 0 would lose 4, layer 0 4"),
        ("opt", EACH, "accepts no OPTForCausalLM with 3 heads: embed_dim must be divisible"),
        ("opt", TWO, "with 2 heads OPTForCausalLM has another shape of .*k_proj.weight, so its config cannot say"),
        ("llama", EACH, "heads share keys and values"),
        ("gpt2", EACH, "a family computes all three at once"),
    ],
)
def test_refuses_to_prune_what_a_config_cannot_say(family, heads, said, tmp_path):
    settings, _, _ = saved(tmp_path / "model", family)
    with pytest.raises(HeadAtlasError, match=said):
        bake(settings, heads, None, ITEMS, tmp_path / "pruned", pruned=True)
    assert not (tmp_path / "pruned").exists()


def test_refuses_quantised_weights():
    class Int8Params(torch.nn.Parameter):
        """Bears the name of bitsandbytes' class, by which such weights are known."""

    model = find_heads(random_model("llama"), "packed")
    projection = model.attentions[1].projection
    projection.weight = Int8Params(projection.weight.data, requires_grad=False)
    check_heads(model, [(0, 1)], None)
    with pytest.raises(HeadAtlasError, match="packed: its weights are quantised, so no part of them"):
        check_heads(model, [(0, 1), (1, 1)], None)


def test_touches_no_folder_that_exists(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("dear")
    with pytest.raises(HeadAtlasError, match="mine: exists already; name a folder that does not"):
        bake({"path": "nowhere"}, HEADS, None, ITEMS, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").read_text() == "dear"


def test_checks_the_shortest_and_the_longest_item():
    chosen = spread(ITEMS, 3)
    assert [len(item["prompt_ids"] + item["answer_ids"]) for item in chosen] == [6, 8, 14]


def test_the_command_bakes_the_demo_with_its_tokenizer(tmp_path):
    shutil.copytree(DEMO, tmp_path / "demo")
    heads = find_heads(AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32), "demo")
    vectors = torch.randn(2, heads.d_head, generator=torch.Generator().manual_seed(2))
    save_file({"mean_all": vectors}, tmp_path / "vectors.safetensors")
    listed = {"heads": [{"layer": 1, "head": 0}, {"layer": 3, "head": 5}], "vectors": {"file": "vectors.safetensors"}}
    (tmp_path / "heads.json").write_text(json.dumps(listed))
    (tmp_path / "items.json").write_text(json.dumps({"task": "t", "counts": {}, "items": ITEMS}))
    settings = {"model": {"path": str(tmp_path / "demo")}, "mode": "mean"}
    files = {name: tmp_path / f"{name}.json" for name in ("heads", "items")}
    done = run_script("bake_heads", settings, folder=tmp_path / "baked", **files)
    assert done.returncode == 0, done.stderr
    assert "2 heads output their mean; log-probabilities are within" in done.stderr
    record = json.loads((tmp_path / "baked/baked.json").read_text())
    assert (record["mode"], record["heads"]) == ("mean", listed["heads"])
    assert record["check"]["difference"] < 1e-5 < record["check"]["change"]
    assert (tmp_path / "baked/tokenizer.json").read_bytes() == (DEMO / "tokenizer.json").read_bytes()
    AutoTokenizer.from_pretrained(tmp_path / "baked")
    again = run_script("bake_heads", settings, folder=tmp_path / "baked", **files)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
