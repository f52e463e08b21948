"""The space between a prompt and its answer. Standard library only."""

from collections import Counter
from collections.abc import Sequence

from headatlas.jobs.cli import log
from headatlas.tasks.item import Item

SAID = {
    "auto": "the space was moved to the front of the answer (join: auto)",
    "none": "the answer is tokenised without it, which most models find unlikely (join: auto would move it)",
}


def join_prompts(items: Sequence[Item], join: str | None) -> None:
    """Treat prompts that end in a space according to `join`, and warn about them.

    Args:
        join: `auto` moves the space to the answer, `none` leaves it; None if no answer follows a prompt directly.
    """
    if join is None:
        return
    files = Counter(item.where.rpartition(":")[0] for item in items if item.prompt.endswith(" "))
    for file, count in files.items():
        log.warning("%s: %d prompts end in a space; %s", file, count, SAID[join])
    if join == "auto":
        _move_spaces(items)


def _move_spaces(items: Sequence[Item]) -> None:
    """Move the spaces that end a prompt to the front of its answer.

    The combined text stays the same; only the cut moves. Tokens of most models begin with the space before a word, so
    "is " + "Paris" would contain a lone space and a word without one, which models rarely see.
    """
    for item in items:
        bare = item.prompt.rstrip(" ")
        item.prompt, item.answer = bare, item.prompt[len(bare) :] + item.answer
