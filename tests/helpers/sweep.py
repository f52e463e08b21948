"""Prints what Head Atlas makes of every causal family that transformers can build tiny.

`PYTHONPATH=scripts python tests/helpers/sweep.py [family ...]`

A line per family: layers with (A) and without (-) attention, heads x width, what stands between attention and output
projection, what proved the heads, the engine, and the largest difference of its effects and of hooked passes from one
plain, unpadded pass per head and item (written without the library), beside the largest effect; or the refusal.
Items lie on both sides of every window and of longrope's switch at 16: prompts of 11, 21 and 37 tokens, windows of 8.
"""

import sys
import tempfile
from dataclasses import dataclass

import numpy as np
import torch
import transformers
from families import plain_effect, random_items
from headatlas.errors import HeadAtlasError
from headatlas.models.folder import read_geometry
from headatlas.models.head_model import HeadModel, find_heads
from headatlas.scoring.ablation import ablate_layers
from sweep_families import FAMILIES, tiny_model

ITEMS = random_items([(37, 3), (21, 2), (11, 2)])


@dataclass
class Row:
    """Of one family: what was found, or why nothing was."""

    family: str
    model: str
    layers: str = ""
    heads: str = ""
    between: str = ""
    proof: str = ""
    geometry: str = ""  # what config.json says otherwise, so that it is refused before or at load
    engines: dict[str, str] | None = None  # positions -> way
    differences: dict[str, dict[str, float]] | None = None  # positions -> way -> nats per answer token
    largest: float = 0.0
    refusal: str = ""

    def line(self) -> str:
        """One row of a Markdown table."""
        if self.refusal:
            return f"| {self.family} | {self.model} | {self.layers} | | | | | {self.refusal} |"
        found = "; ".join(
            f"{positions}: {self.engines[positions]} "
            + ", ".join(f"{way} {difference:.1e}" for way, difference in ways.items())
            for positions, ways in self.differences.items()
        )
        proof = f"{self.proof}" + (f" (between: {self.between})" if self.between else "")
        return (
            f"| {self.family} | {self.model} | {self.layers} | {self.heads} | {proof} | {self.largest:.2g} | {found} | "
            f"{self.geometry} |"
        )


def sweep(family: str) -> Row:
    """Build the family tiny, find its heads and compare effects; Row.refusal is the refusal's text."""
    model = tiny_model(family)
    row = Row(family, type(model).__name__)
    try:
        heads = find_heads(model, family)
    except HeadAtlasError as error:
        row.refusal = str(error)
        return row
    first = heads.attentions[heads.attention_layers[0]]
    row.layers = "".join("A" if attention else "-" for attention in heads.attentions)
    row.heads, row.between, row.proof = f"{heads.n_heads} x {heads.d_head}", first.between or "", first.proof
    row.geometry = said_otherwise(heads)
    try:
        _compare(heads, row)
    except HeadAtlasError as error:
        row.refusal = str(error)
    return row


def _compare(heads: HeadModel, row: Row) -> None:
    """Fill in the engines and their differences from the reference."""
    row.engines, row.differences = {}, {}
    for positions in ("answer", "all"):
        truth = reference(heads, positions)
        row.largest = max(row.largest, float(np.abs(truth).max()))
        found, row.engines[positions] = effects(heads, positions, "auto")
        row.differences[positions] = {row.engines[positions]: float(np.abs(found - truth).max())}
        if row.engines[positions] != "hooked":
            row.differences[positions]["hooked"] = float(np.abs(effects(heads, positions, "hooked")[0] - truth).max())


def said_otherwise(heads: HeadModel) -> str:
    """Differences between config.json, read as plain JSON, and what was found; empty if they agree."""
    with tempfile.TemporaryDirectory() as folder:
        heads.model.config.architectures = [type(heads.model).__name__]
        heads.model.config.save_pretrained(folder)
        try:
            geometry = read_geometry({"path": folder})
        except HeadAtlasError as error:
            return f"before any job: {str(error).removeprefix(folder).lstrip(': ')}"
    found, named = (heads.n_layers, heads.n_heads), (geometry.n_layers, geometry.n_heads)
    return "" if found == named else f"at load: config.json names {named[0]} layers of {named[1]} heads"


def compared(heads: HeadModel) -> list[int]:
    """The first and the last layer that have attention."""
    return sorted({heads.attention_layers[0], heads.attention_layers[-1]})


def reference(heads: HeadModel, positions: str) -> np.ndarray:
    """[item, layer of `compared`, head]: effects of zeroing each head, by plain passes."""
    truth = np.zeros((len(ITEMS), len(compared(heads)), heads.n_heads))
    for at, layer in enumerate(compared(heads)):
        for head in range(heads.n_heads):
            columns = slice(head * heads.d_head, (head + 1) * heads.d_head)
            for index, item in enumerate(ITEMS):
                projection = heads.attentions[layer].projection
                truth[index, at, head] = plain_effect(heads.model, projection, item, columns, 0.0, positions)
    return truth


def effects(heads: HeadModel, positions: str, engine: str) -> tuple[np.ndarray, str]:
    """The same by the library, and the engine that it took (the slower one if it took both)."""
    zeros = np.zeros((1, heads.n_layers, heads.n_heads, heads.d_head), np.float32)
    parts = [
        ablate_layers(heads, ITEMS, zeros, range(layer, layer + 1), positions, 2048, engine=engine)
        for layer in compared(heads)
    ]
    return np.concatenate([part for part, _ in parts], axis=1), min(report.engine for _, report in parts)


def main(families: list[str]) -> None:
    """Print the table, including families that cannot be built from a config alone."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    print("| family | class | layers | heads | proof | largest effect | engine, differences (nats) | refused |")
    print("|---|---|---|---|---|---|---|---|")
    for family in families:
        try:
            row = sweep(family)
        except Exception as error:  # a family that transformers itself cannot build or run tiny
            said = " ".join(str(error).split())[:100]
            row = Row(family, "", refusal=f"not built: {type(error).__name__}: {said}")
        print(row.line(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or FAMILIES)
