"""The cost table of workflow/documentation.md: two models on paper.

`python -m headatlas.cost.examples` writes it again.
"""

from pathlib import Path

from headatlas.cost.arithmetic import Arithmetic
from headatlas.cost.plan import gpu_pass_bytes
from headatlas.cost.speed import assumed_gpu
from headatlas.models.work import Work
from headatlas.scoring.work import ablation_work, expected_entry, group_entries, knock_out_work, trace_work

PAGE = Path(__file__).resolve().parents[3] / "workflow/documentation.md"
BEGIN, END = "<!-- cost: begin -->\n", "<!-- cost: end -->\n"
GIB = 2**30
TASKS, ITEMS, LENGTH, ANSWER, TOKENS = 8, 64, 200, 8, 8192
TOP = 0.1  # share of the heads that are patched
# Sizes as in the config.json of Llama-3.1-8B and Llama-3.1-70B.
LLAMA = {"model_type": "llama", "vocab_size": 128256, "num_key_value_heads": 8}
MODELS = {
    "8B": LLAMA | {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "70B": LLAMA
    | {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672},
}
TASK = [{"prompt_ids": [0] * (LENGTH + 1 - ANSWER), "answer_ids": [0] * ANSWER, "split": "score"} for _ in range(ITEMS)]
ABOUT = {
    "trace": "`trace` with gradients (attribution, probe) | 2",
    "answer": "`ablation`, `positions: answer` | 1 + H A (L + 1) / 2 S",
    "all": "`ablation`, `positions: all` | 1 + H (L + 1) / 2",
    "hooked": "one hooked pass per head (what other tools do) | L H",
    "patches": "patches of K heads (`evidence.same_answer`), a held-out item | 4 + K A (L + 1) / L S",
    "groups": "`evidence.groups`, of G key-value heads a layer, as `ablation` with G for H | 1 + G A (L + 1) / 2 S",
    "minutes": f"minutes for {TASKS} tasks x {ITEMS} items: `trace` and `ablation`, `answer` (`all`) | ",
    "weights": "GiB of weights in bfloat16 | ",
    "backward": f"GiB that `trace` keeps for its backward pass, {TOKENS:,} tokens | ",
    "forward": f"GiB that a pass of `ablation` takes, {TOKENS:,} tokens | ",
}


def with_table(text: str) -> str:
    """The page's text with the table between its two marks."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


def table() -> str:
    """The table in Markdown."""
    heads = [
        f"{name} ({config['num_hidden_layers']} x {config['num_attention_heads']}, S {LENGTH}, A {ANSWER})"
        for name, config in MODELS.items()
    ]
    columns = [_column(Arithmetic(config, name), config) for name, config in MODELS.items()]
    lines = [f"| | passes | {' | '.join(heads)} |", f"| {'--- | ' * (2 + len(heads))}".rstrip()]
    lines += [f"| {about} | {' | '.join(column[row] for column in columns)} |" for row, about in ABOUT.items()]
    return "\n".join(lines).replace("|  |", "| |") + "\n"


def _column(model: Arithmetic, config: dict) -> dict[str, str]:
    layers = range(model.n_layers)
    trace = trace_work(TASK, model.n_layers, paired=False)
    ablated = {at: ablation_work(TASK, layers, model.n_layers, model.n_heads, at, False) for at in ("answer", "all")}
    chosen = round(TOP * model.n_layers * model.n_heads)
    entries = [model.n_layers - 1, *[expected_entry(1, model.n_layers)] * chosen]
    patched = knock_out_work(TASK, entries, model.n_layers, "answer", paired=True) * 2
    grouped = knock_out_work(TASK, group_entries(model.n_layers, model.n_keys), model.n_layers, "answer", paired=False)
    passes = {"trace": trace, **ablated, "patches": patched, "groups": grouped}
    speed = assumed_gpu("bfloat16")

    def minutes(at: str) -> str:
        work = (trace + ablated[at]) * TASKS
        return _short(model.operations(work, speed.products) / speed.operations / 60)

    return {name: _short(_per_item(work, model.n_layers)) for name, work in passes.items()} | {
        "hooked": f"{model.n_layers * model.n_heads:,}",
        "minutes": f"{minutes('answer')} ({minutes('all')})",
        "weights": _short(2 * model.parameters / GIB),
        "backward": _short(gpu_pass_bytes(config, TOKENS, backward=True) / GIB),
        "forward": _short(gpu_pass_bytes(config, TOKENS, backward=False) / GIB),
    }


def _per_item(work: Work, n_layers: int) -> float:
    return work.layers / (n_layers * LENGTH * ITEMS)


def _short(value: float) -> str:
    """Two digits or more."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}".removesuffix(".0")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
