"""Turn a task's files into items of tokens, split by question.

Reads the task's files and the model's tokenizer (no weights); writes an items file (JSON), lengths in tokens.
"""

from pathlib import Path

from headatlas.jobs.cli import run
from headatlas.tasks.items import items_content, read_task, require_splits, sample, warn_of_one_question, write_items
from headatlas.tasks.tokens import load_tokeniser, tokenise


def main(settings: dict, source: list[Path], items: Path) -> None:
    task = read_task(settings, source)
    tokeniser = load_tokeniser(settings["tokenizer"])
    short = tokenise(task.items, tokeniser, settings["max_tokens"], settings["partners"])
    require_splits(short, settings["task"], settings["validate_fraction"])
    kept = sample(short, settings["max_items"])
    warn_of_one_question(kept, settings["task"])
    write_items(items, items_content(settings["task"], task, n_short=len(short), kept=kept))


if __name__ == "__main__":
    run(main)
