"""Have the model write answers to held-out questions while heads of a method's maps are knocked out.

Reads the sets of heads (JSON), the items of all tasks, the pooled baseline and the model's tokenizer; writes JSON: for
each task its held-out items, and the text of each under each set: none, the top heads, and random ones of the same
layers.
"""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from headatlas.files.effects import read_baseline
from headatlas.files.knock_outs import compared_sets
from headatlas.jobs.cli import run, write_json
from headatlas.jobs.progress import progress
from headatlas.jobs.workers import Place
from headatlas.models.generation import write_greedily
from headatlas.models.loading import hold_model, model_of_job
from headatlas.tasks.generated import StopRule, with_room
from headatlas.tasks.items import read_split
from headatlas.tasks.tokens import load_tokeniser


@dataclass(frozen=True)
class Settings:
    """Tasks in the order of the items; baseline: mean | zero; positions: answer | all; the rest as generate_answers."""

    model: dict
    tokenizer: dict
    tasks: list[str]
    baseline: str
    positions: str
    max_tokens: int
    stop: list[str]
    longest: int | None


def prepare(settings: Settings, device: str, memory_mb: int) -> Place | None:
    load_tokeniser.prepare(settings.tokenizer)
    return hold_model(settings.model, device, memory_mb)


def main(
    settings: Settings,
    sets: Path,
    items: list[Path],
    baseline: Path,
    answers: Path,
    device: str,
    threads: int,
    batch_tokens: int,
    memory_mb: int,
) -> None:
    chosen, tokeniser = json.loads(sets.read_text(encoding="utf-8")), load_tokeniser(settings.tokenizer)
    questions = {task: read_split(path, "validate") for task, path in zip(settings.tasks, items, strict=True)}
    asked = {task: with_room(each, settings.max_tokens, settings.longest) for task, each in questions.items()}
    model = model_of_job(settings.model, chain(*asked.values()), device, threads, memory_mb)
    rule = StopRule.of(tokeniser, model.end_tokens, settings.stop)
    table = read_baseline(vars(settings), [], model.shape, None, baseline)
    compared = {task: compared_sets(chosen, task) for task in settings.tasks}
    found = {}
    total = sum(len(questions[task]) * len(compared[task]) for task in settings.tasks)
    with progress("generate", total, "items x sets") as advance:
        for task, prompts in asked.items():
            heads = [[tuple(head) for head in one["heads"]] for one in compared[task]]
            written = write_greedily(model, prompts, rule.over, batch_tokens, heads, table, settings.positions, advance)
            texts = [[rule.answer(ids).text for ids in of_set] for of_set in zip(*written, strict=True)]
            found[task] = {
                "items": [{key: item[key] for key in ("id", "question_id", "answer")} for item in questions[task]],
                "sets": [one | {"texts": texts[index]} for index, one in enumerate(compared[task])],
            }
    write_json(answers, {"method": chosen["method"], "tasks": found})


if __name__ == "__main__":
    run(main)
