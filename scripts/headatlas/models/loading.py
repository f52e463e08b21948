"""Loads a causal language model: where it is, in which format, on which device, within which memory."""

import logging
from collections.abc import Iterable
from functools import partial

import torch
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
    modeling_gguf_pytorch_utils,
)
from transformers.utils.logging import disable_progress_bar

from headatlas.errors import HeadAtlasError
from headatlas.jobs.cli import log
from headatlas.jobs.shared import shared
from headatlas.jobs.workers import Place
from headatlas.models.device import choose_device, place_of_job
from headatlas.models.folder import Geometry, quantised_by, read_geometry, read_model_config
from headatlas.models.gguf_file import check_config, read_header, rotary_factors
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.models.memory import check_share
from headatlas.models.precision import compute_in_float32
from headatlas.models.quantised import compute_expanded
from headatlas.models.source import is_gguf, shown_to_transformers
from headatlas.models.work import longest


def model_of_job(
    settings: dict, items: Iterable[dict], device: str, threads: int, memory_mb: int, backward: bool = False
) -> HeadModel:
    """The model of a job, on its device, whose passes keep to the job's memory.

    Args:
        settings: as in `load_model`; items: tokenised items that the job will run.
        device, threads: as in `choose_device`; memory_mb: host memory that the job may use.
        backward: whether the job needs gradients.

    Raises:
        HeadAtlasError: as in `choose_device`, `check_share` and `load_model`.
    """
    device = choose_device(device, threads)
    check_share(memory_mb, device, settings, longest(items), backward)
    return load_model(settings, device).within(memory_mb)


def hold_model(settings: dict, wanted: str, memory_mb: int) -> Place | None:
    """Load a model in the fork server for jobs that run it on the CPU; for others return the worker that loads it.

    Args:
        settings: as in `load_model`; wanted: device, as in `choose_device`.
        memory_mb: host memory that the job may use.

    Raises:
        HeadAtlasError: as in `load_model`; or the weights alone take more memory, and nothing is loaded.
    """
    place = place_of_job(wanted, settings)
    if place is None:
        check_share(memory_mb, "cpu", settings, longest=0)
        load_model.prepare(settings, "cpu")
    return place


@shared
def load_model(settings: dict, device: str = "cpu") -> HeadModel:
    """Load a local folder, GGUF file or hub id and find its heads.

    Quantised weights of a GGUF file are expanded to `dtype`; those of bitsandbytes stay as they are and are expanded in
    each operation (`quantised`).

    Args:
        settings: `path`, and optionally `revision`, `dtype`, `attn_implementation`, `trust_remote_code` as in
            the config.
        device: where to load it; `spread` distributes its layers over all visible GPUs.

    Raises:
        HeadAtlasError: the model cannot be loaded from safetensors or GGUF, is not causal, or its heads are not found.
    """
    path = settings["path"]
    # Weights go straight to the device: the host never holds a second copy of them.
    # Without a map, quantised weights would go to a GPU if there is one.
    named = device != "cpu" or quantised_by(read_model_config(settings)) is not None
    options = {"device_map": "auto" if device == "spread" else device} if named else {}
    # `_check_weights` reports on weights; the others warn about a plan for several GPUs that is not used here, and
    # about packed GGUF weights, which are expanded here.
    for quiet in ("modeling_utils", "distributed.tensor_parallel", "quantizers.quantizer_gguf"):
        logging.getLogger(f"transformers.{quiet}").setLevel(logging.ERROR)
    disable_progress_bar()  # one of a second or two for every job
    modeling_gguf_pytorch_utils.tqdm = partial(tqdm, disable=True)  # and another, which does not ask
    try:
        with shown_to_transformers(path) as (shown, gguf):
            auto_class = AutoModelForCausalLM if gguf else _auto_class(settings)
            model, loaded = auto_class.from_pretrained(
                shown,
                revision=settings.get("revision") or "main",
                dtype=getattr(torch, settings.get("dtype") or "float32"),
                attn_implementation=settings.get("attn_implementation"),
                trust_remote_code=settings.get("trust_remote_code", False),
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **gguf,
                **options,
            )
    except Exception as error:  # transformers raises OSError, ValueError, SafetensorError, ... for bad folders
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())
        raise HeadAtlasError(f"model {path}: cannot be loaded as a causal language model: {reason}") from error
    _check_weights(loaded, str(path))
    if gguf:
        _complete(model, path)
    compute_expanded(model)
    half_because = compute_in_float32(model)
    if half_because:
        log.warning(
            "model %s: computes in %s instead of float32, so small effects are lost in rounding: %s",
            path, settings["dtype"], half_because,
        )  # fmt: skip
    found = find_heads(model, str(path))
    found.half_because = half_because
    _check_geometry(found, read_geometry(settings), str(path))
    return found


def _complete(model: PreTrainedModel, path: str) -> None:
    """Check how transformers loaded a GGUF file, and scale the rotary frequencies, which it does not."""
    header = read_header(path)
    if unread := check_config(header, model.config):
        log.warning("model %s: transformers does not read everything in the file (%s)", path, ", ".join(unread))
    if factors := rotary_factors(header):
        for module in model.modules():
            if hasattr(module, "inv_freq"):
                module.inv_freq.div_(torch.tensor(factors, device=module.inv_freq.device))


def _check_geometry(heads: HeadModel, geometry: Geometry, path: str) -> None:
    """The loaded model must have the layers and heads of config.json, by which the jobs were planned."""
    source = "header" if is_gguf(path) else "config.json"
    found, named = (heads.n_layers, heads.n_heads), (geometry.n_layers, geometry.n_heads)
    if found != named:
        raise HeadAtlasError(
            f"model {path}: has {found[0]} layers of {found[1]} heads as loaded, but its {source} states {named[0]} "
            f"of {named[1]}, by which the jobs were planned; this family is not supported"
        )


def _auto_class(settings: dict) -> type:
    """The auto class that loads the model: a model with a vision part (LLaVA) is not a causal language model.

    Given only text, such a model runs only its language model.
    """
    config = AutoConfig.from_pretrained(
        settings["path"],
        revision=settings.get("revision") or "main",
        trust_remote_code=settings.get("trust_remote_code", False),
    )
    causal, seeing = (
        type(config) in kind._model_mapping for kind in (AutoModelForCausalLM, AutoModelForImageTextToText)
    )
    return AutoModelForImageTextToText if seeing and not causal else AutoModelForCausalLM


def _check_weights(loaded: dict, path: str) -> None:
    """Refuse weights that do not fill the model: transformers would initialise the rest at random."""
    for name, found, wanted in sorted(loaded["mismatched_keys"]):
        raise HeadAtlasError(
            f"model {path}: the weights hold {name} as {tuple(found)}, where config.json requires {tuple(wanted)}; "
            "get both of the same model"
        )
    if missing := sorted(loaded["missing_keys"]):
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise HeadAtlasError(f"model {path}: the weights lack {missing[0]}{others}; get all files of the model again")
    if spare := sorted(loaded["unexpected_keys"]):
        log.warning("model %s: %d tensors of the weights have no place in it (%s, ...)", path, len(spare), spare[0])
