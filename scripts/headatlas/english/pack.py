"""The English tasks: from cases to the shipped items. Standard library only.

Every prompt has the same shape: a few example lines, each a text with its answer, then a text without one:

    The color of coal is black
    The color of a lemon is yellow
    The color of grass is

Besides its answer an item has a *foil* (a wrong answer of the same kind), the *counterfactual* prompt for which the
foil is right, and `same_answer`, a prompt with another question and the same answer. The three prompts of an item share
their examples.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from headatlas.english.cases import Case
from headatlas.english.forms import FORMS
from headatlas.english.tokens import tokens

SEED = 0
EXAMPLES = 2
ITEMS_PER_FORM = 42
_TRIES = 20


def task_items(task: str, seed: int = SEED) -> list[dict[str, str]]:
    """The items of a task: `id`, `question_id`, `form`, `prompt`, `answer`, `foil`, `counterfactual`, `same_answer`."""
    return [item for form in FORMS[task] for item in form_items(task, form, seed)]


def form_items(task: str, form: str, seed: int = SEED) -> list[dict[str, str]]:
    """The items of one form, at most `ITEMS_PER_FORM`, with answers balanced as far as possible."""
    random = Random(f"{seed} {task} {form}")
    cases = FORMS[task][form](random)
    items = []
    for number, case in enumerate(chosen(random, cases, ITEMS_PER_FORM)):
        partner = same_answer(random, case, cases)
        examples = draw_examples(random, cases, case, partner)
        name = f"{number:02d}" if case.key == case.text else case.key  # each text is used once
        items.append(
            {
                "id": f"{task}-{form}-{number:02d}",
                "question_id": f"{task}-{form}-{name}",
                "form": form,
                "prompt": prompt(examples, case.text),
                "answer": case.answer,
                "foil": case.foil,
                "counterfactual": prompt(examples, case.counterfactual),
                "same_answer": prompt(examples, partner.text),
            }
        )
    return items


def prompt(examples: Sequence[Case], text: str) -> str:
    """Examples with their answers, one per line, then the text to answer."""
    return "\n".join([*(f"{case.text} {case.answer}" for case in examples), text])


def chosen(random: Random, cases: Sequence[Case], number: int) -> list[Case]:
    """Take at most `number` cases, cycling through the answers; skip answers that only one question has."""
    by_answer: dict[str, list[Case]] = {}
    for case in random.sample(cases, len(cases)):
        by_answer.setdefault(case.answer, []).append(case)
    shared = [stack for stack in by_answer.values() if len({case.key for case in stack}) > 1]
    return list(_in_turn(shared))[:number]


def _in_turn(stacks: list[list[Case]]) -> Iterator[Case]:
    while stacks:
        yield from (stack.pop() for stack in stacks)
        stacks = [stack for stack in stacks if stack]


def same_answer(random: Random, case: Case, cases: Sequence[Case]) -> Case:
    """Another question with the same answer, of the same number of tokens if possible."""
    others = [c for c in cases if c.answer == case.answer and c.key != case.key and c.text != case.counterfactual]
    return random.choice([c for c in others if tokens(c.text) == tokens(case.text)] or others)


def draw_examples(random: Random, cases: Sequence[Case], case: Case, partner: Case) -> list[Case]:
    """Examples with different answers that share no names or values with case, partner or one another."""
    for _ in range(_TRIES):
        examples: list[Case] = []
        taken = {case.foil, *case.about, *partner.about}
        for other in random.sample(cases, len(cases)):
            if not taken & other.about and other.answer not in {example.answer for example in examples}:
                examples.append(other)
                taken |= other.about
                if len(examples) == EXAMPLES:
                    return examples
    raise ValueError(f"no examples for '{case.text}': its form has too few cases")


def write_tasks(folder: Path, seed: int = SEED) -> None:
    """Write `{task}.jsonl` of every task into `folder`, one item per line."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in FORMS:
        lines = [json.dumps(item, ensure_ascii=False) for item in task_items(task, seed)]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
