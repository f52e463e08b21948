"""How fast the scoring methods are, against what a researcher would use instead and against the floor.

    python tests/benchmarks/bench.py [--json FILE] [--repeats N] [--gpu]

Every line is a ratio of two times measured in this run, on one model and the same items with the same threads:
the median over interleaved repeats. Results of the two sides are compared as well. `bar` is what the project
wants to reach; `ratio` is better or worse than it by the line's own sense (x faster: above, x the floor: below).
Needs torch and transformers only; TransformerLens (extra `bench`) adds its own lines.
"""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from headatlas.ablation import ablate_layers, working_way
from headatlas.batches import Batch, answer_log_probability, collate
from headatlas.model import HeadModel, find_heads
from headatlas.probe import fit_probe
from headatlas.trace import trace_batch

PROMPT, ANSWER, ITEMS = 96, 1, 8


def llama(layers: int, heads: int, hidden: int = 256, **more) -> HeadModel:
    """A random Llama; `more` overrides the config."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 512,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 512,
        "initializer_range": 0.05,
    }
    return find_heads(LlamaForCausalLM(LlamaConfig(**shape | more)).eval())


def make_items(count: int, prompt: int, answer: int, vocabulary: int) -> list[dict]:
    """Items of random tokens, all of one length so that no side pays for padding."""
    rng = np.random.default_rng(0)
    return [
        {
            "question_id": str(index),
            "split": "score",
            "prompt_ids": rng.integers(1, vocabulary, prompt).tolist(),
            "answer_ids": rng.integers(1, vocabulary, answer).tolist(),
        }
        for index in range(count)
    ]


# --- the other side of each comparison ------------------------------------------------------------------------


def hooked_forwards(model: HeadModel, batch: Batch, positions: str) -> np.ndarray:
    """(a) What a researcher writes: one hooked forward pass of plain transformers per head; zero ablation."""
    network = model.model

    def log_prob() -> torch.Tensor:
        logits = batch.gather(network(input_ids=batch.input_ids, use_cache=False).logits)
        return answer_log_probability(logits, batch.targets, batch.answer_mask)

    start = int(batch.positions.min()) if positions == "answer" else 0
    effects = np.zeros((len(batch), model.n_layers, model.n_heads), np.float32)
    with torch.no_grad():
        clean = log_prob()
        for layer, attention in enumerate(model.attentions):
            for head in range(model.n_heads):
                columns = slice(head * model.d_head, (head + 1) * model.d_head)

                def hook(_module, args, columns=columns):
                    z = args[0].clone()
                    z[:, start:, columns] = 0
                    return (z,)

                handle = attention.projection.register_forward_pre_hook(hook)
                effects[:, layer, head] = (clean - log_prob()).numpy()
                handle.remove()
    return effects


def lens_forwards(bridge, model: HeadModel, batch: Batch) -> np.ndarray:
    """(b) The same job in TransformerLens: one pass per head with a hook on `hook_z`; answer positions."""
    start = int(batch.positions.min())
    effects = np.zeros((len(batch), model.n_layers, model.n_heads), np.float32)

    def log_prob(hooks: list) -> torch.Tensor:
        logits = batch.gather(bridge.run_with_hooks(batch.input_ids, return_type="logits", fwd_hooks=hooks))
        return answer_log_probability(logits, batch.targets, batch.answer_mask)

    with torch.no_grad():
        clean = log_prob([])
        for layer in range(model.n_layers):
            for head in range(model.n_heads):

                def zero(z, hook, head=head):
                    z[:, start:, head] = 0
                    return z

                effects[:, layer, head] = (clean - log_prob([(f"blocks.{layer}.attn.hook_z", zero)])).numpy()
    return effects


def answer_floor(model: HeadModel, batch: Batch) -> None:
    """(c) Prompt forward once, then all rows' answer tokens through the layers above, as plain layer calls.

    A row is one head and item; the rows of a layer's heads join at that layer. They attend to nothing but
    themselves, which is less than they must do.
    """
    base, items = model.model.model, len(batch)
    with torch.no_grad():
        base(input_ids=batch.input_ids, use_cache=False)
        for above in range(1, model.n_layers + 1):
            rows = torch.randn(items * model.n_heads * above, ANSWER, base.config.hidden_size)
            rotary = base.rotary_emb(rows, position_ids=torch.arange(ANSWER)[None])
            rows = base.layers[above - 1](rows, position_embeddings=rotary, attention_mask=None)
        model.model.lm_head(base.norm(rows))


def everywhere_floor(model: HeadModel, batch: Batch) -> None:
    """(c) Forward once, then every head's rows through the layers above it, whole sequences, as plain layer calls."""
    base, items, length = model.model.model, *batch.input_ids.shape
    with torch.no_grad():
        base(input_ids=batch.input_ids, use_cache=False)
        rotary = base.rotary_emb(torch.zeros(1), position_ids=torch.arange(length)[None])
        for layer in range(model.n_layers):
            rows = torch.randn(items * model.n_heads, length, base.config.hidden_size)
            rows = base.layers[layer].mlp(rows)
            for above in base.layers[layer + 1 :]:
                rows = above(rows, position_embeddings=rotary, attention_mask=None)
            model.model.lm_head(base.norm(rows[:, -ANSWER:]))


def bare_forward(model: HeadModel, batch: Batch) -> torch.Tensor:
    """Forward alone, logits where the answer is."""
    with torch.no_grad():
        return model.model(input_ids=batch.input_ids, use_cache=False, logits_to_keep=batch.keep).logits


def bare_backward(model: HeadModel, batch: Batch) -> None:
    """Forward and backward of the answer's log-probability down to the embeddings, no parameter gradients."""
    inputs = model.model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    logits = model.model(inputs_embeds=inputs, use_cache=False, logits_to_keep=batch.keep).logits
    answer_log_probability(batch.gather_kept(logits), batch.targets, batch.answer_mask).sum().backward()


# --- measuring -------------------------------------------------------------------------------------------------


def interleaved(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each side; one warm-up round, then rounds in which every side runs once."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def difference(ours: np.ndarray, theirs: np.ndarray, name: str) -> float:
    """Largest absolute difference; a benchmark of wrong numbers is worth nothing.

    Raises:
        SystemExit: the sides differ by more than 1e-5 nats.
    """
    largest = float(np.abs(ours - theirs).max())
    if not largest <= 1e-5:
        raise SystemExit(f"{name}: results differ by {largest:.2g} nats")
    return largest


def ablation_lines(layers: int, heads: int, positions: str, bars: tuple, repeats: int) -> list[dict]:
    """Lines of one model and kind of ablation: against (a), (b) where installed, and (c)."""
    model = llama(layers, heads)
    items = make_items(ITEMS, PROMPT, ANSWER, 512)
    batch = collate(items, list(range(ITEMS)))
    zero = np.zeros((1, layers, heads, model.d_head), np.float32)
    way = working_way(model, positions)
    found: dict[str, np.ndarray] = {}

    def ours():
        found["ours"] = ablate_layers(model, items, zero, range(layers), positions, 8192, way=way)

    def plain():
        found["plain"] = hooked_forwards(model, batch, positions)

    floor = answer_floor if positions == "answer" else everywhere_floor
    sides: dict[str, Callable] = {"ours": ours, "floor": lambda: floor(model, batch), "plain": plain}
    bridge = lens_of(model) if positions == "answer" else None
    if bridge is not None:
        sides["lens"] = lambda: found.__setitem__("lens", lens_forwards(bridge, model, batch))
    seconds = interleaved(sides, repeats)
    name = f"ablation {positions} {layers}x{heads}"
    lines = [
        line(f"{name}: x faster than hooked passes", seconds["plain"] / seconds["ours"], bars[0], found, "plain"),
        line(f"{name}: x the floor", seconds["ours"] / seconds["floor"], bars[1], found, None),
    ]
    if bridge is not None:
        lines.append(
            line(f"{name}: x faster than TransformerLens", seconds["lens"] / seconds["ours"], bars[0], found, "lens")
        )
    return lines


def line(name: str, ratio: float, bar: float | None, found: dict, other: str | None) -> dict:
    """One row of the table."""
    largest = difference(found["ours"], found[other], name) if other else None
    return {"name": name, "ratio": round(ratio, 3), "bar": bar, "max_abs_diff": largest, "peak_mb": peak_mb()}


def lens_of(model: HeadModel):
    """The model in TransformerLens' bridge, or None where that is not installed."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        return None
    from tempfile import mkdtemp

    folder = mkdtemp()
    model.model.save_pretrained(folder)
    network = LlamaForCausalLM.from_pretrained(folder).eval()
    tokenizer = bench_tokenizer()
    return TransformerBridge.boot_transformers(folder, hf_model=network, tokenizer=tokenizer)


def bench_tokenizer():
    """A tokenizer of 512 words, which TransformerLens wants to be given."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({str(i): i for i in range(512)}, unk_token="0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="1", eos_token="2", pad_token="3", unk_token="0")


def trace_lines(repeats: int) -> list[dict]:
    """Attribution against a bare forward and backward, trace against a bare forward."""
    model = llama(8, 8)
    batch = collate(make_items(ITEMS, PROMPT, ANSWER, 512), list(range(ITEMS)))
    seconds = interleaved(
        {
            "attribution": lambda: trace_batch(model, batch, gradients=True),
            "backward": lambda: bare_backward(model, batch),
            "trace": lambda: trace_batch(model, batch, gradients=False),
            "forward": lambda: bare_forward(model, batch),
        },
        5 * repeats,
    )
    return [
        line("attribution: x bare forward + backward", seconds["attribution"] / seconds["backward"], 1.15, {}, None),
        line("trace: x bare forward", seconds["trace"] / seconds["forward"], 1.10, {}, None),
    ]


def gpu_lines() -> list[dict]:
    """All three methods on a random model of Llama-3.1-8B's shape in bf16: 8 tasks x 64 items x 200 tokens."""
    torch.set_default_device("cuda")
    torch.set_default_dtype(torch.bfloat16)
    model = llama(
        32, 32, 4096, vocab_size=128256, intermediate_size=14336, num_key_value_heads=8, initializer_range=0.02
    )
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("cpu")
    items = make_items(64, 192, 8, 128256)
    zero = np.zeros((1, 32, 32, 128), np.float32)
    outputs, start = [], time.perf_counter()
    for _task in range(8):
        for first in range(0, 64, 16):
            batch = collate(items, list(range(first, first + 16))).to(model.device)
            outputs.append(trace_batch(model, batch, gradients=True)["head_output"].cpu().numpy())
        ablate_layers(model, items, zero, range(32), "answer", 16384)
    labels = np.repeat(np.arange(8), 64)
    probe = {"seeds": 5, "dimensions": 64, "hidden": 128, "epochs": 30, "batch_size": 64, "learning_rate": 1e-3}
    probe |= {"weight_decay": 0.01, "patience": 5, "standardise": True}
    fit_probe(np.concatenate(outputs), labels, [str(i) for i in range(512)], probe, 0, "cuda")
    torch.cuda.synchronize()
    minutes = (time.perf_counter() - start) / 60
    memory = torch.cuda.max_memory_allocated() / 2**30
    return [
        {"name": "8B shape, three methods: minutes", "ratio": round(minutes, 2), "bar": 3.0, "max_abs_diff": None},
        {"name": "8B shape: peak GPU GiB", "ratio": round(memory, 1), "bar": 60.0, "max_abs_diff": None},
    ]


def peak_mb() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--gpu", action="store_true", help="the 8B shape on a CUDA device instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.gpu:
        lines = gpu_lines()
    else:
        lines = ablation_lines(8, 8, "answer", (28.0, 1.6), options.repeats)
        lines += ablation_lines(16, 16, "answer", (60.0, 1.6), max(2, options.repeats // 2))
        lines += ablation_lines(8, 8, "all", (1.6, 1.3), max(2, options.repeats // 2))
        lines += trace_lines(options.repeats)
    print(f"{'':52} {'ratio':>8} {'bar':>6} {'max abs diff':>13} {'peak MB':>8}")
    for row in lines:
        largest = "" if row["max_abs_diff"] is None else f"{row['max_abs_diff']:.1e}"
        print(f"{row['name']:52} {row['ratio']:8.2f} {row['bar']:6} {largest:>13} {row.get('peak_mb', ''):>8}")
    if options.json:
        options.json.write_text(json.dumps(lines, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
