"""The kinds of files that tasks come from: read, and checked to the last key.

Knows nothing of models, splits and samples. Standard library only.
"""

import csv
import difflib
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from headatlas.errors import HeadAtlasError
from headatlas.wording import either, nearest, shorten

SKILLS = {  # task key -> the label that the published CogQA data give the task's subquestions
    "knowledge_recall": "Knowledge Recall",
    "retrieval": "Retrieval",
    "logical_reasoning": "Logical Reasoning",
    "decision_making": "Decision-making",
    "semantic_understanding": "Semantic Understanding",
    "syntactic_understanding": "Syntactic Understanding",
    "inference": "Inference",
    "math_calculation": "Math Calculation",
}
LONGEST_LINE = 1 << 20  # bytes of one JSON line; a longer one is a file of another kind
DEEPEST = 20  # levels of lists and objects in a key that has no meaning here
LARGEST_FILE = 1 << 28  # bytes of a JSON or CSV file, which is read as a whole
FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "csv"}  # a .json file's content tells json from cogqa
TELLING = re.compile(rb'"(prompt|generated)"\s*:')
REQUIRED = ("prompt", "answer")
OPTIONAL = ("id", "question_id", "split")
MISSPELT = 0.85  # likeness (difflib) from which on a key is no key of the user's but a known one misspelt
OTHER_NAMES = {  # what other collections of data call the two
    "prompt": ("question", "input", "query", "text", "instruction", "context", "problem"),
    "answer": ("target", "output", "label", "completion", "response", "solution", "gold"),
}


@dataclass
class Item:
    """One prompt with its answer. `where` is its name in messages; the token ids come from `tokens`.

    `extra` holds the other keys of the file: those for some settings (`items.PARTNERS`) and those without meaning here.
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


@dataclass
class Step:
    """A subquestion of a CogQA question with its answer and label."""

    text: str
    answer: str
    skill: str


@dataclass
class Question:
    """A CogQA question with its subquestions in chain-of-thought order; `id` is a hash of its text."""

    id: str
    text: str
    steps: list[Step]
    file: str
    number: int

    @property
    def labels(self) -> list[str]:
        """The labels of its subquestions that are tasks."""
        return [step.skill for step in self.steps if step.skill in SKILLS.values()]

    @property
    def other_labels(self) -> list[str]:
        """The labels of its subquestions that are no task."""
        return [step.skill for step in self.steps if step.skill not in SKILLS.values()]


class Number(str):
    """A JSON number as it is written in the file: 44 stays 44, 196.50 stays 196.50."""


def format_of(path: str | Path) -> str | None:
    """Tell a file's format from its name, and for .json from its first keys; None where nothing tells it."""
    suffix = Path(path).suffix.lower()
    if suffix != ".json":
        return FORMATS.get(suffix)
    try:
        with open(path, "rb") as file:
            found = TELLING.search(file.read(1 << 16))
    except OSError:
        found = None
    return "json" if found and found[1] == b"prompt" else "cogqa"


def read_prompts(sources: Sequence[Path], form: str) -> list[Item]:
    """Read files of `prompt` and `answer`, and where wanted `id`, `question_id` and `split`; other keys are kept.

    Without `id` an item is named by file and line (json: entry); without `question_id`, items of a prompt are one
    question. A `split` holds for all items of its question. Empty lines are passed over.

    Args:
        form: `jsonl` (an object a line), `json` (a list of objects) or `csv` (a first row of names, then one item
            a row; a .tsv file has tabs between cells).
    Returns:
        the items in the order of the files; `split` is None where the files leave it open.
    Raises:
        HeadAtlasError: file, line or entry, what is wrong, what to do.
    """
    read = {"jsonl": _jsonl_entries, "json": _json_entries, "csv": _csv_entries}[form]
    at, sign = (": entry ", "#") if form == "json" else (":", ":")
    items = [
        _item(entry, f"{path}{at}{number}", f"{name}{sign}{number}")
        for path, name in _names(sources)
        for number, entry in read(path)
    ]
    if not items:
        raise HeadAtlasError(f"{_listed(sources)}: no items; give {EXPECTED[form]}")
    _refuse_repeats((item.id, item.where, "the id") for item in items)
    _refuse_repeats(((item.prompt, item.answer), item.where, "prompt and answer") for item in items)
    _spread_splits(items)
    return items


def spaces_at_the_end(items: Sequence[Item]) -> dict[str, int]:
    """Count the prompts that end in a space, by the file they are of; files without any are left out."""
    return dict(Counter(item.where.rpartition(":")[0] for item in items if item.prompt.endswith(" ")))


def move_spaces(items: Sequence[Item]) -> None:
    """Move the spaces that end a prompt to the front of its answer.

    The text of the two stays as it is and only the cut between them moves: tokens of most models carry the space before
    a word, so that "is " + "Paris" has a lone space and a word without one, which a model hardly ever read.
    """
    for item in items:
        bare = item.prompt.rstrip(" ")
        item.prompt, item.answer = bare, item.prompt[len(bare) :] + item.answer


def read_cogqa(sources: Sequence[Path]) -> list[Question]:
    """Read files of the published CogQA format: lists of questions, each with labelled subquestions.

    Raises:
        HeadAtlasError: file, question and subquestion (counted from 1), what is wrong, what to do.
    """
    questions = []
    for path, name in _names(sources):
        content = _parse(_text(_bytes(path), str(path)), str(path))
        if not isinstance(content, list):
            raise HeadAtlasError(f"{path}: must be a JSON list of questions; for JSON lines set format: jsonl")
        questions += [_question(entry, path, name, number) for number, entry in enumerate(content, 1)]
    if not questions:
        raise HeadAtlasError(f"{_listed(sources)}: no questions; is the file cut short?")
    _refuse_repeats((q.text, f"{q.file}: question {q.number}", "the question") for q in questions)
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
        context: which earlier subquestions stand in the prompt: `all`, `none`, or those of the labels listed.
    Raises:
        HeadAtlasError: no subquestion has the label; says which labels there are.
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
            f"{_listed(dict.fromkeys(q.file for q in questions))}: no subquestion is labelled '{skill}'; "
            "there are " + either(f"'{shorten(label)}'" for label in found)
        )
    return items


def _prompt(question: Question, number: int, context: str | list[str]) -> str:
    *earlier, asked = question.steps[:number]
    shown = [step for step in earlier if context == "all" or step.skill in context]
    steps = [f"Subquestion: {step.text}\nAnswer: {step.answer}" for step in shown]
    return "\n".join([f"Question: {question.text}", *steps, f"Subquestion: {asked.text}\nAnswer:"])


EXPECTED = {
    "jsonl": "one JSON object with prompt and answer a line",
    "json": "a list of objects with prompt and answer",
    "csv": "a first row with prompt,answer and one item a row",
}


def _jsonl_entries(path: Path) -> Iterator[tuple[int, object]]:
    for number, line in _lines(path):
        entry = _parse(line, f"{path}:{number}")
        if isinstance(entry, list):
            raise HeadAtlasError(
                f"{path}:{number}: is a JSON list, not an object; set format: json for a list of prompt and answer, "
                "cogqa for CogQA files"
            )
        yield number, entry


def _json_entries(path: Path) -> Iterator[tuple[int, object]]:
    content = _parse(_text(_bytes(path), str(path)), str(path))
    if not isinstance(content, list):
        raise HeadAtlasError(f"{path}: must be a JSON list of objects with prompt and answer")
    yield from enumerate(content, 1)


def _csv_entries(path: Path) -> Iterator[tuple[int, object]]:
    """Rows by the names of the first; an empty cell is a key that is not there."""
    text = io.StringIO(_text(_bytes(path), str(path)), newline="")
    rows = csv.DictReader(text, strict=True, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        names = rows.fieldnames or []
        if names and not set(REQUIRED) & set(names):
            found = shorten(", ".join(f"'{name}'" for name in names), 200)
            raise HeadAtlasError(
                f"{path}:1: the first row must name the columns prompt and answer, with "
                f"{'tabs' if path.suffix.lower() == '.tsv' else 'commas'} between; it holds {found}"
            )
        if len(set(names)) < len(names):
            raise HeadAtlasError(f"{path}:1: the first row gives two columns one name; rename one")
        for row in rows:
            if None in row:
                raise HeadAtlasError(
                    f"{path}:{rows.line_num}: has more cells than the first row; put texts with commas in double quotes"
                )
            yield rows.line_num, {key: value for key, value in row.items() if value or key in REQUIRED}
    except csv.Error as error:
        raise HeadAtlasError(f"{path}:{rows.reader.line_num}: is not valid CSV: {error}; mend it") from None


def _item(entry: object, where: str, name: str) -> Item:
    _check_names(entry, where)
    prompt = _field(entry, "prompt", where)
    split = entry.get("split")
    if split not in (None, "score", "validate"):
        given = f"'{shorten(split)}'" if isinstance(split, str) else _kind(split)
        raise HeadAtlasError(f"{where}: split must be score or validate, got {given}")
    return Item(
        id=_field(entry, "id", where, number=True) if "id" in entry else name,
        question_id=_field(entry, "question_id", where, number=True) if "question_id" in entry else _hash(prompt),
        split=split,
        prompt=prompt,
        answer=_field(entry, "answer", where, number=True),
        where=where,
        extra=_extra(entry, where),
    )


def _extra(entry: dict, where: str) -> dict:
    """The keys of an entry that have no meaning here, fit to be written again."""
    given = {key: value for key, value in entry.items() if key not in REQUIRED + OPTIONAL}
    if _depth(given) > DEEPEST:
        raise HeadAtlasError(f"{where}: is nested too deeply to be a task's file")
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise HeadAtlasError(f"{where}: has half a character (a lone \\ud800 to \\udfff); mend it") from None
    return _plain(given)


def _depth(value: object) -> int:
    """Levels of lists and objects, counted up to one more than are allowed."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        parts = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level, depth = [part for inner in parts for part in inner], depth + 1
    return depth


def _plain(value: object) -> object:
    """Numbers as numbers again, at any depth."""
    if isinstance(value, Number):
        return json.loads(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def _check_names(entry: object, where: str) -> None:
    """Ask for prompt and answer; refuse what is likely one of the known keys misspelt, and let all others stand."""
    if not isinstance(entry, dict):
        raise HeadAtlasError(f"{where}: must be a JSON object with {', '.join(REQUIRED)}")
    missing = [key for key in REQUIRED if key not in entry]
    renamed = {key: next((name for name in entry if name.lower() in OTHER_NAMES[key]), None) for key in missing}
    if missing and all(renamed.values()):
        ways = " and ".join(f"'{shorten(name)}' to {key}" for key, name in renamed.items())
        raise HeadAtlasError(f"{where}: {' and '.join(missing)} missing; rename the key {ways}")
    absent = [key for key in REQUIRED + OPTIONAL if key not in entry]
    known = (*REQUIRED, *OPTIONAL, *(name for names in OTHER_NAMES.values() for name in names))
    for key in (key for key in entry if key not in known):
        if difflib.get_close_matches(key.lower(), absent, n=1, cutoff=0.6 if missing else MISSPELT):
            raise HeadAtlasError(f"{where}: unknown key '{shorten(key)}'; {nearest(key, absent)}")
    for key in missing:
        raise HeadAtlasError(f"{where}: {key} is missing; every entry needs {', '.join(REQUIRED)}")


def _question(entry: object, path: Path, name: str, number: int) -> Question:
    where = _at(path, number)
    _check_keys(entry, where, required=("question", "generated"), optional=("answer",))
    text = _field(entry, "question", where).strip()
    if not isinstance(entry["generated"], list) or not entry["generated"]:
        raise HeadAtlasError(f"{where}: generated must be a list of subquestions, at least one")
    steps = [_step(step, _at(path, number, place)) for place, step in enumerate(entry["generated"], 1)]
    return Question(_hash(text), text, steps, name, number)


def _step(entry: object, where: str) -> Step:
    _check_keys(entry, where, required=("subquestion", "answer", "cognitive_skill"))
    return Step(
        _field(entry, "subquestion", where).strip(),
        _field(entry, "answer", where, number=True).strip(),
        _field(entry, "cognitive_skill", where).strip(),
    )


def _at(file: Path | str, question: int, step: int | None = None) -> str:
    return f"{file}: question {question}" + ("" if step is None else f", subquestion {step}")


# --- checks -----------------------------------------------------------------------------------------


def _check_keys(entry: object, where: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(entry, dict):
        raise HeadAtlasError(f"{where}: must be a JSON object with {', '.join(required)}")
    for key in entry:
        if key not in required + optional:
            near = nearest(key, required + optional)
            raise HeadAtlasError(f"{where}: unknown key '{shorten(key)}'; {near}")
    for key in required:
        if key not in entry:
            raise HeadAtlasError(f"{where}: {key} is missing; every entry needs {', '.join(required)}")


def _field(entry: dict, key: str, where: str, number: bool = False) -> str:
    """Return the text of a field; a JSON number counts as text where `number` says so."""
    value = entry[key]
    if not isinstance(value, str) or (isinstance(value, Number) and not number):
        raise HeadAtlasError(f"{where}: {key} must be text{' or a number' * number}, got {_kind(value)}")
    if not value.strip():
        raise HeadAtlasError(f"{where}: {key} is empty; fill it in, or take the entry out")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise HeadAtlasError(f"{where}: {key} has half a character (a lone \\ud800 to \\udfff); mend it") from None
    return str(value)


def _kind(value: object) -> str:
    names = {Number: "a number", bool: "true or false", list: "a list", dict: "an object", type(None): "null"}
    return names.get(type(value), "text")


def _refuse_repeats(entries: Iterable[tuple[object, str, str]]) -> None:
    first: dict[object, str] = {}
    for value, where, what in entries:
        if value in first:
            raise HeadAtlasError(f"{where}: repeats {what} of {first[value]}; take one out")
        first[value] = where


def _spread_splits(items: list[Item]) -> None:
    """Give all items of a question the split that any of them names."""
    named: dict[str, Item] = {}
    for item in (item for item in items if item.split is not None):
        other = named.setdefault(item.question_id, item)
        if other.split != item.split:
            raise HeadAtlasError(
                f"{item.where}: split {item.split}, but {other.where} of the same question "
                f"'{shorten(item.question_id)}' has split {other.split}; a question goes into one split"
            )
    for item in items:
        item.split = named[item.question_id].split if item.question_id in named else None


# --- files ------------------------------------------------------------------------------------------


def _names(sources: Sequence[Path]) -> list[tuple[Path, str]]:
    """Name each file shortly, but so that no two have one name."""
    short = Counter(Path(path).name for path in sources)
    return [(Path(path), Path(path).name if short[Path(path).name] == 1 else str(path)) for path in sources]


def _listed(sources: Iterable[Path | str]) -> str:
    return ", ".join(map(str, sources))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty with their numbers, never holding more than one in memory."""
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
                where = f"{path}:{number}"
                if len(raw) > LONGEST_LINE:
                    raise HeadAtlasError(f"{where}: is longer than {LONGEST_LINE} bytes; is this JSON lines?")
                line = _text(raw, where, start=number == 1)
                if line.strip():
                    yield number, line
    except OSError as error:
        raise HeadAtlasError(f"{path}: cannot be read: {error.strerror}") from None


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise HeadAtlasError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > LARGEST_FILE:
        raise HeadAtlasError(f"{path}: is larger than {LARGEST_FILE} bytes; is this a task's file?")
    return raw


def _text(raw: bytes, where: str, start: bool = True) -> str:
    try:
        return raw.decode("utf-8-sig" if start else "utf-8")  # -sig: some editors begin a file with a mark
    except UnicodeDecodeError as error:
        raise HeadAtlasError(f"{where}: is not UTF-8 text (byte {error.start}); save the file as UTF-8") from None


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(
            text,
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_once,
        )
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if "\n" in text.strip() else ""
        raise HeadAtlasError(f"{where}{line}: is not valid JSON: {error.msg} (column {error.colno}); mend it") from None
    except ValueError as error:
        raise HeadAtlasError(f"{where}: {error}") from None
    except RecursionError:
        raise HeadAtlasError(f"{where}: is nested too deeply to be a task's file") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON knows; give a number, or text in quotes")


def _once(pairs: list[tuple[str, object]]) -> dict:
    entry: dict = {}
    for key, value in pairs:
        if key in entry:
            raise ValueError(f"names the key '{shorten(key)}' twice; take one out")
        entry[key] = value
    return entry


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]
