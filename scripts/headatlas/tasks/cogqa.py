"""The published CogQA format: questions with labelled subquestions, and their items. Standard library only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.tasks.fields import (
    refuse_other_keys,
    refuse_repeats,
    require_keys,
    require_object,
    text_id,
    text_of,
)
from headatlas.tasks.item import Item
from headatlas.tasks.strict_json import parse
from headatlas.tasks.text_file import listed, read_text, short_names
from headatlas.wording import shorten

SKILLS = {  # task key -> the label of the task's subquestions in the published CogQA data
    "knowledge_recall": "Knowledge Recall",
    "retrieval": "Retrieval",
    "logical_reasoning": "Logical Reasoning",
    "decision_making": "Decision-making",
    "semantic_understanding": "Semantic Understanding",
    "syntactic_understanding": "Syntactic Understanding",
    "inference": "Inference",
    "math_calculation": "Math Calculation",
}


@dataclass
class Step:
    """A subquestion with its answer and label."""

    text: str
    answer: str
    skill: str


@dataclass
class Question:
    """A question with its subquestions in the order of the chain of thought; `id` is a hash of its text."""

    id: str
    text: str
    steps: list[Step]
    file: str
    number: int

    @property
    def labels(self) -> list[str]:
        """The labels among its subquestions that are tasks."""
        return [step.skill for step in self.steps if step.skill in SKILLS.values()]

    @property
    def other_labels(self) -> list[str]:
        """The labels among its subquestions that are not tasks."""
        return [step.skill for step in self.steps if step.skill not in SKILLS.values()]


def read_cogqa(sources: Sequence[Path]) -> list[Question]:
    """Read CogQA files: lists of questions, each with labelled subquestions.

    Raises:
        HeadAtlasError: file, question and subquestion (counted from 1), what is wrong, what to do.
    """
    questions = []
    for path, name in short_names(sources):
        content = parse(read_text(path), str(path))
        if not isinstance(content, list):
            raise HeadAtlasError(f"{path}: must be a JSON list of questions; for JSON lines set format: jsonl")
        questions += [_question(entry, path, name, number) for number, entry in enumerate(content, 1)]
    if not questions:
        raise HeadAtlasError(f"{listed(sources)}: no questions; is the file truncated?")
    refuse_repeats((q.text, _at(q.file, q.number), "the question") for q in questions)
    return questions


def cogqa_items(questions: Sequence[Question], skill: str, context: str | list[str]) -> list[Item]:
    """Make an item of every subquestion that is labelled `skill`.

    The prompt is the main question, the earlier subquestions with their answers, and the subquestion:

        Question: {question}
        Subquestion: {earlier subquestion}
        Answer: {its answer}
        Subquestion: {subquestion}
        Answer:

    Args:
        context: which earlier subquestions the prompt contains: `all`, `none`, or those with the listed labels.
    Raises:
        HeadAtlasError: no subquestion has the label; lists the existing labels.
    """
    items = [
        Item(
            id=f"{question.file}#{question.number}.{number}",
            question_id=question.id,
            split=None,
            prompt=_prompt(question, number, context),
            answer=step.answer,
            where=_at(question.file, question.number, number),
        )
        for question in questions
        for number, step in enumerate(question.steps, 1)
        if step.skill == skill
    ]
    if not items:
        found = Counter(step.skill for question in questions for step in question.steps)
        raise HeadAtlasError(
            f"{listed(dict.fromkeys(q.file for q in questions))}: no subquestion is labelled '{skill}'; "
            "the labels are " + ", ".join(f"'{shorten(label)}'" for label in found)
        )
    return items


def _prompt(question: Question, number: int, context: str | list[str]) -> str:
    *earlier, asked = question.steps[:number]
    shown = [step for step in earlier if context == "all" or step.skill in context]
    steps = [f"Subquestion: {step.text}\nAnswer: {step.answer}" for step in shown]
    return "\n".join([f"Question: {question.text}", *steps, f"Subquestion: {asked.text}\nAnswer:"])


def _question(entry: object, path: Path, name: str, number: int) -> Question:
    where = _at(path, number)
    _check_keys(entry, where, required=("question", "generated"), optional=("answer",))
    text = text_of(entry, "question", where).strip()
    if not isinstance(entry["generated"], list) or not entry["generated"]:
        raise HeadAtlasError(f"{where}: generated must be a list of at least one subquestion")
    steps = [_step(step, _at(path, number, place)) for place, step in enumerate(entry["generated"], 1)]
    return Question(text_id(text), text, steps, name, number)


def _step(entry: object, where: str) -> Step:
    _check_keys(entry, where, required=("subquestion", "answer", "cognitive_skill"))
    return Step(
        text_of(entry, "subquestion", where).strip(),
        text_of(entry, "answer", where, number=True).strip(),
        text_of(entry, "cognitive_skill", where).strip(),
    )


def _check_keys(entry: object, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    require_object(entry, where, required)
    refuse_other_keys(entry, where, required + optional)
    require_keys(entry, where, required)


def _at(file: Path | str, question: int, step: int | None = None) -> str:
    return f"{file}: question {question}" + ("" if step is None else f", subquestion {step}")
