"""What every head attends to from the answer positions of the items that the page shows, of one task.

Reads items; writes attention weights and the texts of tokens (safetensors, see `headatlas.files.attention`).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.files.attention import write_attention
from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.loading import hold_model, model_of_job
from headatlas.scoring.attend import attend
from headatlas.tasks.items import read_split
from headatlas.tasks.tokens import load_tokeniser, token_texts


@dataclass(frozen=True)
class Settings:
    """shown: the most items of the score split that the page shows."""

    model: dict
    tokenizer: dict
    shown: int


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings, items: Path, attention: Path, device: str, threads: int, batch_tokens: int, memory_mb: int
) -> None:
    chosen = read_split(items, "score")[: settings.shown]
    tokeniser = load_tokeniser(settings.tokenizer)
    texts = [token_texts(tokeniser, item["prompt_ids"] + item["answer_ids"]) for item in chosen]
    model = model_of_job(settings.model, chosen, device, threads, memory_mb)
    with progress("attend", len(chosen), "items") as advance:
        found = attend(model, chosen, texts, batch_tokens, advance)
    write_attention(attention, found)


if __name__ == "__main__":
    run(main)
