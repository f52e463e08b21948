"""Plans memory before a model is loaded: what the machine has, and what a job that runs a model needs.

Imported at parse time: no torch. `batches` measures actual passes and keeps them within a job's share.
"""

import os
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.models.folder import is_local, read_model_config, weight_bytes

MB = 10**6
USABLE = 0.8  # share of a machine's memory; the rest is for the system and other programs
LIBRARIES = 420 * MB  # Python with torch and transformers, before weights and passes
PASS_TOKENS = 1024  # tokens of a pass for which a job on the CPU requests memory; more do not make a CPU faster
BACKWARD_TOKENS = 512  # the same with gradients, where a token takes several times as much memory
ANSWER_TOKENS = 512  # positions for whose logits a job on the CPU requests memory
LOGITS_COPIES = 3  # peak memory of an answer's score, in sizes of the logits
QUANTISED = {"load_in_8bit": 1.0, "load_in_4bit": 0.57}  # bytes of a layer's weight with its scales (bitsandbytes)
UNKNOWN_WEIGHTS = 32_000_000_000  # bytes, if a hub model's config.json does not determine them
SIZES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "between": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocabulary": ("vocab_size",),
}


def machine_memory(root: Path = Path("/")) -> int:
    """Bytes of memory of this machine, or the limit of this process's control group (versions 1 and 2)."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        own = top / path.strip("/")  # a container may show only the top
        limits += [_limit(folder / name) for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return min(limits)


def _limit(file: Path) -> float:
    text = file.read_text().strip() if file.is_file() else "max"
    return float("inf") if text == "max" else int(text)


def weights_of(model: dict) -> int:
    """Bytes of a model's weights in memory, before any of it is loaded.

    Args:
        model: an entry of `models` in the config.
    """
    if is_local(model["path"]):
        return weight_bytes(model["path"], model["dtype"])
    return estimate_weights(read_model_config(model), model["dtype"])


def estimate_weights(config: dict, dtype: str) -> int:
    """Bytes of a dense decoder's weights by its config.json, overestimated by some 10%; 32 GB if it lacks the sizes."""
    size = sizes(config)
    if None in size.values():
        return UNKNOWN_WEIGHTS
    each, quantised = 4 if dtype == "float32" else 2, config.get("quantization_config") or {}
    of_layers = next((kept for way, kept in QUANTISED.items() if quantised.get(way)), each)
    layers = size["layers"] * (4 * size["hidden"] ** 2 + 3 * size["hidden"] * size["between"])
    return 2 * size["vocabulary"] * size["hidden"] * each + int(layers * of_layers)


def token_bytes(config: dict, backward: bool) -> int:
    """Bytes per token of a pass, by the model's config.json: an estimate within a tenth for Llamas.

    Args:
        backward: whether the pass keeps the activations of all layers for gradients; otherwise it keeps those of two
            layers, and for each layer three tensors as wide as the stream (input, heads, attention output) from which
            edits start.
    """
    size = sizes(config)
    hidden, layers = size["hidden"] or 4096, size["layers"] or 32
    layer = 4 * (10 * hidden + 4 * (size["between"] or 4 * hidden))
    return layers * layer if backward else 2 * layer + layers * 4 * 3 * hidden


def pass_bytes(config: dict, backward: bool, longest: int | None = None) -> int:
    """Bytes that a job on the CPU requests for its passes.

    Args:
        backward: whether the passes have gradients; longest: tokens of the longest item, if known.
    """
    tokens = max(BACKWARD_TOKENS if backward else PASS_TOKENS, longest or 0)
    logits = LOGITS_COPIES * 4 * ANSWER_TOKENS * (sizes(config)["vocabulary"] or 0)
    return max(tokens * token_bytes(config, backward), logits, 64 * MB)


def check_share(memory_mb: int, device: str, model: dict, longest: int, backward: bool = False) -> None:
    """Refuse a share too small for the weights and one item, before anything is loaded.

    Args:
        memory_mb: host memory that the job may use; device: nothing is checked unless it is the CPU.
        model: as in the job's settings; longest: tokens of the longest item; backward: whether the job needs gradients.

    Raises:
        HeadAtlasError: names the memory needed and the key that sets the share.
    """
    if device != "cpu":
        return
    weights = weights_of(model)
    one = longest * token_bytes(read_model_config(model), backward)
    needed = -(-(LIBRARIES + weights + one) // MB)
    if needed > memory_mb:
        raise HeadAtlasError(
            f"model {model['path']}: needs at least {needed:,} MB of memory (weights {weights // MB:,} MB, the longest "
            f"item of {longest} tokens {one // MB:,} MB, libraries {LIBRARIES // MB} MB), but the job may take "
            f"{memory_mb:,} MB; raise compute.memory (on a cluster mem_mb), or set items.max_tokens below {longest}, "
            "so that the item is left out"
        )


def sizes(config: dict) -> dict[str, int | None]:
    """The sizes of `SIZES` that config.json gives, None where it gives none."""
    text = config.get("text_config")
    text = text if isinstance(text, dict) else config
    return {
        what: next((text[name] for name in names if isinstance(text.get(name), int)), None)
        for what, names in SIZES.items()
    }
