"""Pages of models that do not exist: results as the rules leave them, with values that a test knows."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import write_page
import write_page_data
from headatlas.evidence.capability import COLUMNS as CAPABILITY
from headatlas.evidence.importance import importance_table, write_table
from headatlas.files.attention import FLOOR, FULL, Attention, write_attention
from headatlas.files.effects import write_effects
from headatlas.stats.head_statistics import head_statistics
from safetensors.numpy import save_file

SOURCES = sorted((Path(__file__).parents[2] / "workflow/page").iterdir())
LOOKS = {
    "labels": {}, "columns": 4, "scheme": "viridis", "signed_scheme": "redblue", "scale": "shared",
    "legend_title": "Heads Importance", "signed_legend_title": "Effect ({unit})", "q_threshold": 0.05,
}  # fmt: skip
METHODS = {"ablation": {"baseline": "mean", "positions": "answer"}, "attribution": {"baseline": "zero", "steps": 1}}
CAPABLE = {name: 0.5 for name, kind in CAPABILITY.items() if kind == pl.Float64} | {"metric": "log_prob"}


def effects_of(layers: int, heads: int, items: int, seed: int, methods=METHODS) -> dict[str, np.ndarray]:
    """Effects [item, layer, head] by method; a few heads are strong."""
    rng = np.random.default_rng(seed)
    strength = rng.exponential(0.02, (layers, heads)) * rng.choice(
        [-1, 1, 1, 30], (layers, heads), p=[0.2, 0.4, 0.38, 0.02]
    )
    return {method: (strength + rng.normal(0, 0.02, (items, layers, heads))).astype(np.float32) for method in methods}


def attention_of(layers: int, heads: int, items: list[dict], seed: int) -> Attention:
    """Weights of every head on every item, one row each: most on the first token, the rest on a few others."""
    rng = np.random.default_rng(seed)
    tokens = [len(item["prompt_ids"]) for item in items]
    weights = rng.dirichlet(np.full(8, 0.3), (layers, heads, len(items)))
    places = np.stack([rng.choice(n, 8, replace=n < 8) for n in tokens])
    kept = weights >= FLOOR
    positions = np.sort(np.broadcast_to(places, kept.shape), axis=-1)[kept]
    about = [
        {"tokens": [f" {word}" for word in item["prompt"].split()] + [item["answer"]], "start": n, "rows": 1}
        for item, n in zip(items, tokens, strict=True)
    ]
    return Attention(kept.sum(-1), positions, np.round(weights[kept] * FULL), about)


def items_of(task: str, count: int, words: int) -> list[dict]:
    """Score items of so many words, after one held-out item."""
    prompts = [" ".join(f"w{index}" for index in range(words - number % 3)) for number in range(count)]
    known = [{"split": "validate", "prompt": "held out", "answer": "x"}]
    known += [{"split": "score", "prompt": prompt, "answer": f"a{number}"} for number, prompt in enumerate(prompts)]
    return [
        {
            "id": f"{task}-{n}",
            "question_id": f"q{n}",
            "answer_ids": [1],
            "prompt_ids": [0] * len(item["prompt"].split()),
        }
        | item
        for n, item in enumerate(known)
    ]


def write_results(
    folder: Path,
    layers=4,
    heads=6,
    tasks=("alpha", "beta"),
    count=24,
    words=12,
    attention=True,
    effects=None,
    items=None,
) -> dict:
    """Write the results behind a page and return the settings of `write_page_data`.

    Args:
        effects: by task and method, [item, layer, head]; items: by task. Otherwise they are drawn.
    """
    scores = []
    for number, task in enumerate(tasks):
        listed = items[task] if items else items_of(task, count, words)
        scored = [item for item in listed if item["split"] == "score"]
        found = effects[task] if effects else effects_of(layers, heads, len(scored), number)
        for method, effect in found.items():
            absent = np.flatnonzero(np.isnan(effect).all((0, 2))).tolist()
            question, correct = np.arange(len(effect)), np.ones(len(effect))
            write_effects(folder / f"effects/{method}/{task}.safetensors", effect, question, correct, absent)
            scores.append(_scores(effect, method, task))
        _write_items(folder / f"items/{task}.json", task, listed)
        _write_trace(folder / f"trace/{task}.safetensors", listed)
        if attention:
            write_attention(folder / f"attention/{task}.safetensors", attention_of(layers, heads, scored, number))
    methods = {method: METHODS[method] for method in found}
    write_table(importance_table(pl.concat(scores), list(methods), list(tasks)), folder / "importance.parquet")
    rows = [
        {"task": task, "n_questions": count, "n_items": count, "capable": task != "beta"} | CAPABLE for task in tasks
    ]
    write_table(pl.DataFrame(rows, schema=CAPABILITY), folder / "evidence/capability.parquet")
    return {
        "model": "sample", "tasks": list(tasks), "methods": methods, "groups": heads // 2, "metric": "log_prob",
        "effects": {method: ["{task}.safetensors"] for method in methods}, "confidence": 0.95, "items": "all",
        "shown": 64, "examples": 5,
    }  # fmt: skip


def write_sample(folder: Path, **given) -> Path:
    """Write results and their page; return the page."""
    settings = write_results(folder, **given)
    make_data(folder, settings)
    copies = [folder / "page" / source.name for source in SOURCES]
    looks = LOOKS | {"labels": {"alpha": "Alpha & <b>first</b>"}}
    write_page.main(write_page.Settings(settings["tasks"], looks), SOURCES, copies, folder / "page/looks.js")
    return folder / "page/index.html"


def make_data(folder: Path, settings: dict, **tables: Path) -> None:
    """Run `write_page_data` on results, and on further tables."""
    attention = [folder / f"attention/{task}.safetensors" for task in settings["tasks"]]
    write_page_data.main(
        write_page_data.Settings(**settings),
        importance=folder / "importance.parquet",
        capability=folder / "evidence/capability.parquet",
        effects=folder / "effects",
        items=[folder / f"items/{task}.json" for task in settings["tasks"]],
        traces=[folder / f"trace/{task}.safetensors" for task in settings["tasks"]],
        data=folder / "page/data",
        attention=attention if attention[0].is_file() else [],
        **tables,
    )


def _scores(effect: np.ndarray, method: str, task: str) -> pl.DataFrame:
    n, layers, heads = effect.shape
    found = head_statistics(effect.reshape(n, -1).astype(float), np.arange(n), confidence=0.95)
    index = np.arange(layers * heads)
    place = {"layer": (index // heads).astype(np.int32), "head": (index % heads).astype(np.int32)}
    named = {"model": "sample", "method": method, "task": task, "stopped": False}
    numbers = {name: getattr(found, name) for name in ("effect", "std_error", "ci_low", "ci_high", "p_value")}
    frame = pl.DataFrame(place | numbers).with_columns(n_items=n, n_questions=n, note=pl.lit(None, pl.String))
    return frame.with_columns(**{name: pl.lit(value) for name, value in named.items()}).fill_nan(None)


def _write_items(path: Path, task: str, items: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task": task, "counts": {}, "items": items}), encoding="utf-8")


def _write_trace(path: Path, items: list[dict]) -> None:
    """The score of an item is minus its number; every third is answered wrongly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number = np.arange(len(items))
    tensors = {"score": -number.astype(np.float32), "correct": (number % 3 > 0).astype(np.uint8), "question": number}
    save_file(tensors, path)
