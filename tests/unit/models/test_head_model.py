"""Heads are found by structure in every family, add up to the attention output, and can be removed by a hook."""

import json

import pytest
import torch
from families import FAMILIES, random_items, random_model
from headatlas.errors import HeadAtlasError
from headatlas.models.batches import collate
from headatlas.models.head_model import contribution_error, find_heads
from headatlas.models.loading import load_model
from headatlas.models.replay import Replay, UnsupportedError
from headatlas.scoring.trace import trace_batch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertLMHeadModel


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def heads(family):
    return find_heads(random_model(family), family)


def test_geometry_is_the_configs(family, heads):
    config = FAMILIES[family]()
    assert heads.n_layers == config.num_hidden_layers
    assert heads.n_heads == config.num_attention_heads
    assert heads.d_head == (getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def test_contributions_of_all_heads_are_the_attention_output(family, heads):
    """With other tokens than the check at load; and leaving a head out must be noticed."""
    ids = torch.randint(3, 90, (2, 11), generator=torch.Generator().manual_seed(5))
    seen = {}
    handles = [
        attention.projection.register_forward_hook(
            lambda module, args, output: seen.__setitem__(module, (args[0], output))
        )
        for attention in heads.attentions
    ]
    with torch.no_grad():
        heads.model(input_ids=ids)
    for handle in handles:
        handle.remove()
    for attention in heads.attentions:
        z, output = seen[attention.projection]
        z, output = z.reshape(2, 11, -1), output.reshape(2, 11, -1)
        assert contribution_error(attention, z, output) < 1e-5
        z = z.clone()
        z[..., : attention.d_head] = 0
        assert contribution_error(attention, z, output) > 1e-2


def test_zeroing_a_head_equals_zeroing_its_columns_of_the_weight(family, heads):
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(6))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        clean = heads.logits(ids, mask)
        for layer, attention in enumerate(heads.attentions):
            weight = attention.projection.weight
            flat = weight if isinstance(attention.projection, torch.nn.Linear) else weight.T
            for head in range(attention.n_heads):

                def edit(z, head=head):
                    z = z.clone()
                    z[:, :, head] = 0
                    return z

                with heads.edit_head_outputs({layer: edit}):
                    hooked = heads.logits(ids, mask)
                columns = slice(head * attention.d_head, (head + 1) * attention.d_head)
                kept = flat[:, columns].clone()
                flat[:, columns] = 0
                reference = heads.logits(ids, mask)
                flat[:, columns] = kept
                assert torch.allclose(hooked, reference, atol=1e-5), (layer, head)
                assert (hooked - clean).abs().max() > 1e-4, (layer, head)


def test_scores_do_not_depend_on_padding(family, heads):
    """An item alone and in a padded batch: log-probability, head outputs and gradient terms within 1e-5."""
    items = random_items([(9, 3), (4, 1), (13, 2)])
    together = trace_batch(heads, collate(items, [0, 1, 2], length=24), gradients=True)
    for row in range(3):
        alone = trace_batch(heads, collate(items, [row]), gradients=True)
        for name, value in alone.items():
            difference = (value[0].float() - together[name][row].float()).abs().max()
            assert difference < 1e-5 * max(1, value.float().abs().max()), (name, row)


def test_refuses_a_model_without_attention():
    class Plain(torch.nn.Module):
        def forward(self, input_ids):
            return input_ids

    with pytest.raises(HeadAtlasError, match="plain: holds no list of layers in which heads could be; give"):
        find_heads(Plain(), "plain")


def test_refuses_heads_that_do_not_add_up():
    model = random_model("llama")
    projection = model.model.layers[1].self_attn.o_proj
    plain = projection.forward
    projection.forward = lambda z: plain(z).square()
    with pytest.raises(HeadAtlasError, match=r"layers\.1\.self_attn the contributions of 4 heads of width 8 should"):
        find_heads(model, "broken")


def test_what_follows_the_projection_is_no_concern_of_the_heads():
    """An attention module that doubles what its projection puts out: heads are found, but layers are not replayed."""
    model = random_model("llama")
    attention = model.model.layers[1].self_attn
    plain = attention.forward

    def doubled(*args, **kwargs):
        output, weights = plain(*args, **kwargs)
        return 2 * output, weights

    attention.forward = doubled
    heads = find_heads(model, "doubled")
    assert [part.module is None for part in heads.attentions] == [False, True, False]
    with pytest.raises(
        UnsupportedError, match=r"no module around model\.layers\.1\.self_attn outputs the sum of its heads"
    ):
        Replay(heads, collate(random_items([(5, 1)]), [0]), "answer", range(3))


def test_refuses_a_model_whose_config_names_other_heads(tmp_path):
    """The jobs are planned by config.json before anything is loaded."""
    random_model("llama").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"decoder_layers": 7}))
    with pytest.raises(HeadAtlasError, match=r"has 3 layers of 4 heads as loaded, but its config\.json states 7 of 4"):
        load_model({"path": str(tmp_path)})


def test_refuses_weights_that_give_nan():
    model = random_model("llama")
    model.model.layers[0].mlp.down_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(HeadAtlasError, match="not finite; the weights hold NaN"):
        find_heads(model, "nan")


def test_loads_safetensors_only(tmp_path):
    model = random_model("llama")
    model.save_pretrained(tmp_path)
    found = load_model({"path": str(tmp_path)})
    assert torch.equal(found.model.lm_head.weight, model.lm_head.weight)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(HeadAtlasError, match="cannot be loaded as a causal language model"):
        load_model({"path": str(tmp_path)})


def test_refuses_weights_that_leave_part_of_the_model_to_chance(tmp_path, caplog):
    model = random_model("llama")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    save_file(weights | {name: weights[name][:, :3].contiguous()}, tmp_path / "model.safetensors", {"format": "pt"})
    width, hidden = weights[name].shape[1], weights[name].shape[0]
    with pytest.raises(
        HeadAtlasError, match=rf"hold {name} as \({hidden}, 3\), where .* requires \({hidden}, {width}\)"
    ):
        load_model({"path": str(tmp_path)})
    fewer = {key: value for key, value in weights.items() if "layers.1." not in key}
    save_file(fewer, tmp_path / "model.safetensors", {"format": "pt"})
    n_others = sum("layers.1." in key for key in weights) - 1
    with pytest.raises(HeadAtlasError, match=rf"lack model.layers.1.input_layernorm.weight and {n_others} more; get"):
        load_model({"path": str(tmp_path)})
    save_file(weights | {"spare": torch.ones(2)}, tmp_path / "model.safetensors", {"format": "pt"})
    load_model({"path": str(tmp_path)})
    assert "1 tensors of the weights have no place in it (spare, ...)" in caplog.text


def test_refuses_a_model_that_looks_ahead():
    """A BERT under the head of a language model: transformers loads it as a causal one, and only warns."""
    options = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    encoder = BertLMHeadModel(BertConfig(vocab_size=50, **options))
    with pytest.raises(HeadAtlasError, match="another last token changes what the model says before it"):
        find_heads(encoder, "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_output_layer_runs_on_the_kept_positions_only(family):
    model = find_heads(random_model(family), family)
    ids = torch.arange(3, 13)[None]
    seen = []
    handle = model.model.get_output_embeddings().register_forward_hook(
        lambda _m, args, _o: seen.append(args[0].shape[1])
    )
    with torch.no_grad():
        kept = model.logits(ids, torch.ones_like(ids), keep=3)
        handle.remove()
        whole = model.logits(ids, torch.ones_like(ids))
    assert seen == [3]
    assert torch.allclose(kept, whole[:, -3:], atol=1e-5)
