"""Turn a task's files into items of tokens, split by question.

Reads the task's files and the model's tokenizer (no weights); writes an items file (JSON), lengths in tokens.
"""

from pathlib import Path

from headatlas import tasks, tokens
from headatlas.job import run


def main(settings: dict, source: list[Path], items: Path) -> None:
    task = tasks.read_task(settings, source)
    tokeniser = tokens.load_tokeniser(settings["tokenizer"])
    short = tokens.tokenise(task.items, tokeniser, settings["max_tokens"])
    tasks.require_splits(short, settings["task"], settings["validate_fraction"])
    kept = tasks.sample(short, settings["max_items"])
    tasks.warn_of_one_question(kept, settings["task"])
    tasks.write_items(items, tasks.items_content(settings["task"], task, n_short=len(short), kept=kept))


if __name__ == "__main__":
    run(main)
