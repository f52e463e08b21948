"""One prompt with its answer. Standard library only."""

from dataclasses import dataclass, field

REQUIRED = ("prompt", "answer")  # keys of every entry that becomes an item


@dataclass
class Item:
    """A prompt with its answer.

    `where` names it in messages. `extra` holds the other keys of its file: those that some settings need
    (`partners.PARTNERS`), and those that are not used, such as a category. The token ids come from `tokens`; `split` is
    None if the file does not set it.
    """

    id: str
    question_id: str
    split: str | None
    prompt: str
    answer: str
    where: str
    prompt_ids: list[int] = field(default_factory=list)
    answer_ids: list[int] = field(default_factory=list)
    foil_id: int | None = None
    counterfactual_ids: list[int] | None = None
    same_answer_ids: list[int] | None = None
    extra: dict = field(default_factory=dict)
