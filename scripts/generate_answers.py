"""Have the model write an answer to every item of a task: greedily, in batches.

Reads items (JSON) and the model's tokenizer; writes JSON: text, tokens and end of each answer, in the order of the
items (see `headatlas.tasks.generated`).
"""

from dataclasses import dataclass
from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.generation import write_greedily
from headatlas.models.loading import hold_model, model_of_job
from headatlas.tasks.generated import StopRule, with_room, written_content
from headatlas.tasks.items import read_items, write_items
from headatlas.tasks.tokens import load_tokeniser


@dataclass(frozen=True)
class Settings:
    """max_tokens of an answer; stop: texts before which it ends; longest: tokens of prompt and answer, null: any."""

    model: dict
    tokenizer: dict
    max_tokens: int
    stop: list[str]
    longest: int | None


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    load_tokeniser.prepare(settings.tokenizer)
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings, items: Path, answers: Path, device: str, threads: int, batch_tokens: int, memory_mb: int
) -> None:
    content, tokeniser = read_items(items), load_tokeniser(settings.tokenizer)
    asked = with_room(content["items"], settings.max_tokens, settings.longest)
    model = model_of_job(settings.model, asked, device, threads, memory_mb)
    rule = StopRule.of(tokeniser, model.end_tokens, settings.stop)
    with progress("generate", len(asked), "items") as advance:
        written = write_greedily(model, asked, rule.over, batch_tokens, advance=advance)
    write_items(answers, written_content(content, [rule.answer(ids) for (ids,) in written]))


if __name__ == "__main__":
    run(main)
