"""From a task's files to the content of its items file."""

from collections.abc import Sequence
from pathlib import Path

from headatlas.tasks.items import items_content, read_task, sample
from headatlas.tasks.splits import require_splits, warn_of_one_question
from headatlas.tasks.tokens import Tokeniser, load_tokeniser, tokenise


def prepare_items(settings: dict, sources: Sequence[Path], tokeniser: Tokeniser | None = None) -> dict:
    """Read, check, split, tokenise and sample a task's items.

    Args:
        settings: of the rule `prepare_task` (see its script); sources: the task's files.
        tokeniser: None to load that of the settings.

    Returns:
        as `items.items_content`.

    Raises:
        HeadAtlasError: as `items.read_task`, `tokens.load_tokeniser` and `tokens.tokenise`; a split is empty.
    """
    task = read_task(settings, sources)
    tokeniser = tokeniser or load_tokeniser(settings["tokenizer"])
    short = tokenise(task.items, tokeniser, settings["max_tokens"], settings.get("partners", ()))
    require_splits(short, settings["task"], settings["validate_fraction"])
    kept = sample(short, settings["max_items"])
    warn_of_one_question(kept, settings["task"])
    return items_content(settings["task"], task, n_short=len(short), kept=kept)
