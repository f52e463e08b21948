"""The eight mini-languages of the built-in demo: one controlled task for each cognitive function.

Every prompt has one shape, `context ? question`. The context is a few statements `name value ,` of three
kinds: a word, a two-digit number, or a link to another name. Contexts of all tasks use the same vocabulary, so only the
question says what to do with them:

    tom rose , ann 4 7 , kim tom , bob tin ? find ann        -> 4 7         (retrieval)
    tom rose , ann 4 7 , kim tom , bob tin ? trace kim       -> tom rose    (inference)

In each task some *contents* (the pair looked up, the sum, the expression, ...) are reserved by a hash of their text:
shipped items use only reserved contents, training never does. Standard library only.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

TASKS = (
    "knowledge_recall",
    "retrieval",
    "logical_reasoning",
    "decision_making",
    "semantic_understanding",
    "syntactic_understanding",
    "inference",
    "math_calculation",
)
SEED = 0
QUESTIONS_PER_TASK = 110  # each is asked twice, with statements in another order: 220 items per task

_NAMES = """
tom ann bob sue kim max joe amy ben eva dan ida gus liz hal mia
ned zoe ray una sam ivy leo meg ted fay roy joy abe nan vic pam
"""
NAMES = tuple(_NAMES.split())
CLASSES = {
    "animal": ("dog", "cat", "cow", "pig", "fox", "hen"),
    "flower": ("rose", "tulip", "lily", "daisy", "iris", "poppy"),
    "tool": ("saw", "axe", "drill", "file", "rake", "spade"),
    "fruit": ("plum", "pear", "fig", "lime", "peach", "apple"),
    "metal": ("iron", "tin", "gold", "zinc", "lead", "brass"),
    "colour": ("red", "blue", "green", "pink", "grey", "black"),
    "drink": ("tea", "milk", "wine", "beer", "juice", "cocoa"),
    "cloth": ("silk", "wool", "linen", "felt", "lace", "denim"),
}
CLASS_OF = {word: name for name, words in CLASSES.items() for word in words}
WORDS = tuple(CLASS_OF)
IRREGULAR = {
    "fox": "foxes",
    "lily": "lilies",
    "daisy": "daisies",
    "iris": "irises",
    "poppy": "poppies",
    "peach": "peaches",
}
PLURALS = {word: IRREGULAR.get(word, word + "s") for word in WORDS[:24]}
VERBS = {"run": "runs", "fall": "falls", "grow": "grows", "rest": "rests", "turn": "turns", "wait": "waits"}
PREPOSITIONS = ("near", "by", "behind", "under")
RELATIONS = {"home": "house", "pet": "mascot", "friend": "pal", "age": "years"}  # keyword: its synonym
DIGITS = tuple("0123456789")
MARKS = (",", "?", "+")
KEYWORDS = ("find", "trace", "judge", "choose", "most", "least", "like", "say", "sum")
LOGIC = ("yes", "no", "and", "or", "not")


def vocabulary() -> list[str]:
    """All words of the mini-languages, in a fixed order, without special tokens."""
    relations = itertools.chain.from_iterable(RELATIONS.items())
    verbs = itertools.chain.from_iterable(VERBS.items())
    groups = (MARKS, DIGITS, LOGIC, KEYWORDS, relations, verbs, ("the",), PREPOSITIONS, NAMES, WORDS)
    return [*itertools.chain.from_iterable(groups), *PLURALS.values()]


@dataclass(frozen=True)
class Statement:
    """One fact of a context: `key value`; `kind` is `word`, `number` or `link`."""

    kind: str
    key: str
    value: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question: keyword, arguments, answer tokens, and the content by which it is reserved.

    `after` puts the keyword after its arguments; only facts stored in the weights are asked both ways. A simpler rule
    would also answer `plain` questions: training uses them, shipped items do not.
    """

    task: str
    keyword: str
    arguments: tuple[str, ...]
    answer: tuple[str, ...]
    content: str
    after: bool = False
    plain: bool = False

    @property
    def reserved(self) -> bool:
        """Whether this question is held out from training."""
        if self.task == "knowledge_recall":
            # A fact has four phrasings (2 keywords x 2 orders). One is held out from training; shipped items use only
            # that one.
            return (self.keyword in RELATIONS, self.after) == _reserved_phrasing(self.content)
        return _digest(f"{self.task} {self.content}") % 5 == 0

    @property
    def tokens(self) -> list[str]:
        """The question as words, marks included."""
        return ["?", *self.arguments, self.keyword] if self.after else ["?", self.keyword, *self.arguments]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _reserved_phrasing(fact: str) -> tuple[bool, bool]:
    """(first keyword of the pair, keyword after its argument) of the held-out phrasing of a fact."""
    number = _digest(f"phrasing {fact}") % 4
    return number < 2, number % 2 == 1


def _make_facts() -> dict[tuple[str, str], tuple[str, ...]]:
    random = Random("facts of the demo world")
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in NAMES:
        facts[name, "home"] = (random.choice(WORDS),)
        facts[name, "pet"] = (random.choice(WORDS),)
        facts[name, "friend"] = (random.choice([other for other in NAMES if other != name]),)
        facts[name, "age"] = tuple(str(random.randrange(10, 100)))
    return facts


FACTS = _make_facts()  # stored in the model's weights: no prompt states them


def make_context(random: Random, words: int, numbers: int, links: int) -> list[Statement]:
    """Draw the given numbers of statements of each kind, shuffled.

    Keys are distinct; words are of distinct classes; numbers (10 to 99) have distinct first digits; links
    point at the keys of distinct statements that are not links.
    """
    keys = random.sample(NAMES, words + numbers + links)
    chosen = random.sample(sorted(CLASSES), words)
    values = [("word", (random.choice(CLASSES[name]),)) for name in chosen]
    tens = random.sample(DIGITS[1:], numbers)
    values += [("number", (ten, random.choice(DIGITS))) for ten in tens]
    values += [("link", (key,)) for key in random.sample(keys[: words + numbers], links)]
    context = [Statement(kind, key, value) for key, (kind, value) in zip(keys, values, strict=True)]
    random.shuffle(context)
    return context


def _of_kind(context: list[Statement], kind: str) -> list[Statement]:
    return [statement for statement in context if statement.kind == kind]


def ask_recall(random: Random, context: list[Statement]) -> Question:
    """A fact of the demo world; in half the cases the context states something else about the same person."""
    name = random.choice(context).key if random.random() < 0.5 else random.choice(NAMES)
    relation = random.choice(sorted(RELATIONS))
    keyword = random.choice([relation, RELATIONS[relation]])
    after = random.random() < 0.5
    return Question("knowledge_recall", keyword, (name,), FACTS[name, relation], f"{name} {relation}", after)


def ask_retrieval(random: Random, context: list[Statement]) -> Question:
    """The value that the context gives for a name."""
    statement = random.choice(context)
    content = " ".join((statement.key, *statement.value))
    return Question("retrieval", "find", (statement.key,), statement.value, content)


def ask_logic(random: Random, context: list[Statement]) -> Question:
    """An expression of four truth values; `not` binds before `and`, `and` before `or`; answers balanced."""
    wanted = random.random() < 0.5
    while True:
        atoms = [(random.random() < 0.5, random.random() < 0.4) for _ in range(4)]  # (value, negated)
        operators = [random.choice(("and", "or")) for _ in range(3)]
        terms = [[value != negated for value, negated in atoms[:1]]]
        for operator, (value, negated) in zip(operators, atoms[1:], strict=True):
            if operator == "or":
                terms.append([])
            terms[-1].append(value != negated)
        if any(all(term) for term in terms) == wanted:
            break
    expression: list[str] = []
    for operator, (value, negated) in zip(["", *operators], atoms, strict=True):
        expression += [operator] * bool(operator) + ["not"] * negated + ["yes" if value else "no"]
    answer = ("yes" if wanted else "no",)
    return Question("logical_reasoning", "judge", tuple(expression), answer, " ".join(expression))


def ask_decision(random: Random, context: list[Statement]) -> Question | None:
    """The largest or the smallest of the numbers; needs three."""
    options = _of_kind(context, "number")
    if len(options) < 3:
        return None
    criterion = random.choice(("most", "least"))
    pick = max if criterion == "most" else min
    best = pick(options, key=lambda option: option.value)
    content = f"{criterion} {best.key} {best.value[0]}"
    return Question("decision_making", "choose", (criterion,), best.value, content)


def ask_semantics(random: Random, context: list[Statement]) -> Question | None:
    """Which word of the context is of the cue's class; needs three words."""
    words = [statement.value[0] for statement in _of_kind(context, "word")]
    if len(words) < 3:
        return None
    answer = random.choice(words)
    cue = random.choice([word for word in CLASSES[CLASS_OF[answer]] if word != answer])
    return Question("semantic_understanding", "like", (cue,), (answer,), f"{cue} {answer}")


def ask_syntax(random: Random, context: list[Statement]) -> Question:
    """The verb's form, which agrees with the noun phrase without a preposition."""
    nouns = random.sample(sorted(PLURALS), 3)
    plural, *numbers = [random.random() < 0.5 for _ in range(3)]
    subject = ["the", PLURALS[nouns[0]] if plural else nouns[0]]
    phrases = []
    for noun, many in zip(nouns[1:], numbers, strict=True):
        phrases.append([random.choice(PREPOSITIONS), "the", PLURALS[noun] if many else noun])
    phrases.insert(random.randrange(3), subject)
    verb = random.choice(sorted(VERBS))
    answer = (verb if plural else VERBS[verb],)
    arguments = (verb, *itertools.chain.from_iterable(phrases))
    plain = numbers == [plural, plural]  # no distractor disagrees
    return Question("syntactic_understanding", "say", arguments, answer, f"{verb} {subject[1]}", plain=plain)


def ask_inference(random: Random, context: list[Statement]) -> Question | None:
    """The chain from a name: the name it links to and the value of that name; needs two links."""
    links = _of_kind(context, "link")
    if len(links) < 2:
        return None
    start = random.choice(links)
    values = {statement.key: statement.value for statement in context}
    answer = values[start.value[0]]
    return Question("inference", "trace", (start.key,), (*start.value, *answer), " ".join((start.key, *answer)))


def ask_sum(random: Random, context: list[Statement]) -> Question:
    """The sum of two two-digit numbers, at most 99; the two orders of a pair share a content."""
    first = random.randrange(10, 90)
    second = random.randrange(10, 100 - first)
    arguments = (*str(first), "+", *str(second))
    content = f"{min(first, second)} {max(first, second)}"
    return Question("math_calculation", "sum", arguments, tuple(str(first + second)), content)


@dataclass(frozen=True)
class Language:
    """A task's questions, its contexts, and whether the answer depends on the context.

    `contexts` are choices of (words, numbers, links).
    """

    ask: Callable[[Random, list[Statement]], Question | None]
    contexts: tuple[tuple[int, int, int], ...]
    reads_context: bool


# Tasks with long questions get short contexts, so that prompts of all tasks have about the same length.
_ANY = ((2, 2, 1), (2, 1, 2), (3, 2, 0), (1, 3, 1), (3, 1, 2), (2, 2, 2))
_SHORT = ((1, 1, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1))
_MEDIUM = ((2, 1, 1), (1, 2, 1), (3, 0, 1), (2, 2, 0))
_OPTIONS = ((1, 3, 1), (0, 4, 0), (1, 4, 0), (2, 3, 0))
_WORDS = ((3, 1, 1), (4, 1, 0), (3, 1, 2), (3, 2, 1))
_LINKS = ((2, 1, 2), (3, 0, 2), (1, 2, 2), (2, 2, 2))
LANGUAGES = {
    "knowledge_recall": Language(ask_recall, _ANY, False),
    "retrieval": Language(ask_retrieval, _ANY, True),
    "logical_reasoning": Language(ask_logic, _SHORT, False),
    "decision_making": Language(ask_decision, _OPTIONS, True),
    "semantic_understanding": Language(ask_semantics, _WORDS, True),
    "syntactic_understanding": Language(ask_syntax, _SHORT, False),
    "inference": Language(ask_inference, _LINKS, True),
    "math_calculation": Language(ask_sum, _MEDIUM, False),
}


# Half of the training contexts are shorter: the model first learns to look up in these.
EASY_CONTEXTS = ((2, 0, 0), (1, 1, 0), (1, 0, 1), (1, 1, 1), (0, 3, 0), (2, 0, 2))
# Relative frequency of each task (in the order of TASKS) among further questions about a training context; tasks that
# are learnt slowly are more frequent.
FOLLOW_UPS = (2, 1, 1, 2, 2, 1, 1, 1)


def context_tokens(context: list[Statement]) -> list[str]:
    """The statements as words, separated by commas."""
    words: list[str] = []
    for statement in context:
        words += [",", statement.key, *statement.value]
    return words[1:]


def draw(random: Random, task: str, reserved: bool) -> tuple[list[Statement], Question]:
    """A context and a question of one task: reserved and not plain, or not reserved."""
    language = LANGUAGES[task]
    while True:
        context = make_context(random, *random.choice(language.contexts))
        question = language.ask(random, context)
        if question is not None and question.reserved == reserved and not (reserved and question.plain):
            return context, question


def training_text(random: Random, length: int) -> tuple[list[str], list[bool]]:
    """One training sequence: a context and as many questions about it as fit `length` words.

    The first question is of a random task, in a context made for it, as in a shipped item. Questions of all tasks that
    fit the context follow. None is reserved.

    Returns:
        The words, and for each whether it is part of an answer.
    """
    context, question = draw(random, random.choice(TASKS), reserved=False)
    if random.random() < 0.5:
        context = make_context(random, *random.choice(EASY_CONTEXTS))
        question = _next_question(random, context)
    words = context_tokens(context)
    is_answer = [False] * len(words)
    while True:
        asked = question.tokens
        if len(words) + len(asked) + len(question.answer) > length:
            return words, is_answer
        words += [*asked, *question.answer]
        is_answer += [False] * len(asked) + [True] * len(question.answer)
        question = _next_question(random, context)


def _next_question(random: Random, context: list[Statement]) -> Question:
    while True:
        task = random.choices(TASKS, FOLLOW_UPS)[0]
        question = LANGUAGES[task].ask(random, context)
        if question is not None and not question.reserved:
            return question


def task_items(task: str, seed: int = SEED, questions: int = QUESTIONS_PER_TASK) -> list[dict[str, str]]:
    """The shipped items of a task: `id`, `question_id`, `prompt`, `answer`.

    Each question is asked twice, with the statements of its context in another order.
    """
    random = Random(f"{seed} {task}")
    items = []
    for number, (context, question) in enumerate(_distinct(random, task, questions)):
        question_id = f"{task}-{number:03d}"
        for letter, statements in zip("ab", (context, _reordered(random, context)), strict=True):
            items.append(
                {
                    "id": question_id + letter,
                    "question_id": question_id,
                    "prompt": " ".join([*context_tokens(statements), *question.tokens]),
                    "answer": " ".join(question.answer),
                }
            )
    return items


def _distinct(random: Random, task: str, number: int) -> Iterator[tuple[list[Statement], Question]]:
    """Draw distinct reserved questions; if the answer depends on the context, the context is part of the question."""
    seen: set[object] = set()
    while len(seen) < number:
        context, question = draw(random, task, reserved=True)
        about = frozenset(context) if LANGUAGES[task].reads_context else question.arguments
        key = (question.content, about)
        if key not in seen:
            seen.add(key)
            yield context, question


def _reordered(random: Random, context: list[Statement]) -> list[Statement]:
    while True:
        other = random.sample(context, len(context))
        if other != context:
            return other


def write_tasks(folder: Path, seed: int = SEED) -> None:
    """Write `{task}.jsonl` of every task into `folder`, one item per line."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        lines = [json.dumps(item) for item in task_items(task, seed)]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
