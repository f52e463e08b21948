"""Every causal family that the installed transformers can build tiny from its config: 4 layers, 4 heads, windows of 8.

One set of sizes goes wherever a config names them; `OVERRIDES` holds what a family needs besides.
"""

import torch
import transformers as hf
from families import VOCABULARY
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

WINDOW = 8
SIZES = {
    "vocab_size": VOCABULARY,
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    "head_dim": 8,
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("sliding_window", "attention_window", "attention_window_size"), WINDOW),
    **dict.fromkeys(("local_window", "window_size"), WINDOW),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "topk_group"), 2),
    **dict.fromkeys(("n_group", "num_expert_group"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 16),
    **dict.fromkeys(("expert_ffn_hidden_size", "ffn_hidden_size"), 16),
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
_LATENT = {
    "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
_INDEXED = {**_LATENT, "index_topk": 6, "index_head_dim": 16, "index_n_heads": 2}
_MAMBA_2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16, "mamba_n_groups": 1}
_DELTA = {
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
_EVERY_OTHER = {"layer_types": ["linear_attention", "full_attention"] * 2}
_DECODER = {"is_decoder": True}
OVERRIDES = {
    "axk1": _LATENT, "axk2": _INDEXED, "deepseek_v2": _LATENT, "deepseek_v3": _LATENT, "longcat_flash": _LATENT,
    "minicpm3": _LATENT, "sarvam_mla": _LATENT, "youtu": _LATENT, "glm4_moe_lite": _LATENT, "hy_v4": _INDEXED,
    "deepseek_v32": _INDEXED, "glm_moe_dsa": _INDEXED,
    "kimi_linear": {**_LATENT, **_EVERY_OTHER, "linear_head_dim": 8, "linear_num_heads": 4},
    "bailing_hybrid": {**_LATENT, **_EVERY_OTHER, "linear_head_dim": 8, "linear_num_heads": 4},
    "bamba": {**_MAMBA_2, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {**_MAMBA_2, **_EVERY_OTHER},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8,
                  "mamba_chunk_size": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4,
              "use_mamba_kernels": False},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "chunk_size": 16},
    "nemotron_h": {"layer_types": ["linear_attention", "full_attention", "mlp", "full_attention"]},
    "zamba": {"attention_head_dim": 16, "attention_hidden_size": 64, "num_key_value_heads": 4, "n_mamba_heads": 2,
              "mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False,
              "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"]},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "n_mamba_heads": 4,
               "mamba_d_state": 8, "mamba_headdim": 16, "chunk_size": 16, "num_key_value_heads": 4, "adapter_rank": 4,
               "attention_hidden_size": 64, "attention_head_dim": 16, "use_mem_rope": True},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "recurrent_gemma": {"lru_width": 32, "block_types": ["recurrent", "attention"]},
    "minimax": {**_EVERY_OTHER, "block_size": 16},
    "olmo_hybrid": {**_DELTA, **_EVERY_OTHER},
    **{family: {**_DELTA, **_EVERY_OTHER} for family in ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text")},
    "qwen4_exp_text": {**_DELTA, **_EVERY_OTHER, "hc_count": 2, "hc_lowrank": 8, "ple_embed_dim": 8,
                       "ngram_vocab_size_base": 100, "split_ngram_parts": 2, "heads_per_ngram": 2},
    "codegen": {"rotary_dim": 4}, "gptj": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "dots1": {"n_shared_experts": 1},
    "dots3_note_text": {**_INDEXED, "per_layer_config": None, "head_dim": 16},
    "dbrx": {"attn_config": {"kv_n_heads": 2, "clip_qkv": None}, "num_key_value_heads": None,
             "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2}},
    "whisper": {"max_target_positions": 64},
    "hunyuan_v1_dense": {"head_dim": 8}, "hunyuan_v1_moe": {"head_dim": 8}, "ministral": {"head_dim": 8},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2,
                     "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8, "laurel_rank": 8,
                     "activation_sparsity_pattern": None},
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
                    "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "llama4_text": {"attention_chunk_size": 8, "floor_scale": 4, "attn_scale": 0.5,
                    "no_rope_layers": [1, 0, 1, 0], "attn_temperature_tuning": True, "intermediate_size_mlp": 48},
    "phi3": {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4,
                                 "long_factor": [4.0] * 4, "original_max_position_embeddings": 16},
             "original_max_position_embeddings": 16},
    "inkling_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8},
    "reformer": {**_DECODER, "attn_layers": ["local"] * 4, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16],
                 "attention_head_size": 8, "feed_forward_size": 48, "local_attn_chunk_length": 8},
    "xmod": {**_DECODER, "default_language": "en_XX"},
    "xlm": {"causal": True},
    **dict.fromkeys(
        ("bert", "bert-generation", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "rembert",
         "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl"), _DECODER),
    "big_bird": {**_DECODER, "attention_type": "original_full"},
}  # fmt: skip
LARGE = {
    "phi4_multimodal",
    "gemma4_unified",
    "gemma4_unified_assistant",
    "git",
    "blt",
    "fuyu",
}  # towers that are not language, ...
FAMILIES = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in LARGE]


def tiny_config(family: str):
    """The family's text config with `SIZES` where it names them, and its overrides."""
    config = CONFIG_MAPPING[family]()
    if not hasattr(config, "decoder_layers"):  # BART and the like; of others, the language part
        config = config.get_text_config(decoder=True)
    known = set(config.to_dict()) | set(getattr(config, "attribute_map", {}))
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if config.to_dict().get("head_dim") is None:
        sizes.pop("head_dim", None)
    return type(config)(**(sizes | OVERRIDES.get(family, OVERRIDES.get(f"{family}_text", {}))))


def tiny_model(family: str) -> torch.nn.Module:
    """A random model of the family, its matrices larger than usual so that heads have effects to speak of."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(tiny_config(family)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(2)
    return model
