"""The eight mini-languages of the built-in demo: one controlled task for each cognitive function.

Every prompt has one shape, `context ? question :`. The context is a few statements `name value ,` of three
kinds: a word, a two-digit number, or a link to another name. Contexts of all tasks are drawn from the same
vocabulary, so it is the question that says what to do with them:

    tom rose , ann 4 7 , kim tom , bob tin ? find ann :      -> 4 7     (retrieval)
    tom rose , ann 4 7 , kim tom , bob tin ? trace kim :     -> rose    (inference)

Of each task some *contents* (the pair looked up, the sum, the expression, ...) are reserved by a hash of their
text: shipped items ask for reserved contents only, training never does. Standard library only.
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
QUESTIONS_PER_TASK = 110  # each is asked in two phrasings: 220 items a task

NAMES = tuple(
    "tom ann bob sue kim max joe amy ben eva dan ida gus liz hal mia "
    "ned zoe ray una sam ivy leo meg ted fay roy joy abe nan vic pam".split()
)
CLASSES = {
    "animal": "dog cat cow pig fox hen".split(),
    "flower": "rose tulip lily daisy iris poppy".split(),
    "tool": "saw axe drill file rake spade".split(),
    "fruit": "plum pear fig lime peach apple".split(),
    "metal": "iron tin gold zinc lead brass".split(),
    "colour": "red blue green pink grey black".split(),
    "drink": "tea milk wine beer juice cocoa".split(),
    "cloth": "silk wool linen felt lace denim".split(),
}
CLASS_OF = {word: name for name, words in CLASSES.items() for word in words}
WORDS = tuple(CLASS_OF)
PLURALS = dict(
    zip(
        WORDS[:24],
        "dogs cats cows pigs foxes hens roses tulips lilies daisies irises poppies "
        "saws axes drills files rakes spades plums pears figs limes peaches apples".split(),
        strict=True,
    )
)
VERBS = {"run": "runs", "fall": "falls", "grow": "grows", "rest": "rests", "turn": "turns", "wait": "waits"}
PREPOSITIONS = ("near", "by", "behind", "under")
RELATIONS = {"home": "house", "pet": "mascot", "friend": "pal", "age": "years"}  # keyword: its synonym
DIGITS = tuple("0123456789")
MARKS = (",", "?", ":", "+")
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
    """What is asked: keyword, arguments, the answer's tokens, and the content it is reserved by.

    `order` 0 writes the keyword before its arguments, 1 after them; None leaves it to the phrasing.
    """

    task: str
    keyword: str
    arguments: tuple[str, ...]
    answer: tuple[str, ...]
    content: str
    order: int | None = None

    @property
    def reserved(self) -> bool:
        """Whether this question is held out from training."""
        if self.task == "knowledge_recall":
            return _parity(self.content) != _phrasing(self.keyword, self.order)
        return _digest(f"{self.task} {self.content}") % 5 == 0

    def tokens(self, order: int) -> list[str]:
        """The question as words, marks included; `order` counts where the question fixes none."""
        order = order if self.order is None else self.order
        parts = [[self.keyword], list(self.arguments)]
        return ["?", *parts[order], *parts[1 - order], ":"]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _parity(fact: str) -> int:
    return _digest(f"phrasing {fact}") % 2


def _phrasing(keyword: str, order: int) -> int:
    """Each fact is trained in two of its four phrasings (2 keywords x 2 orders): those of one parity."""
    return ((keyword in RELATIONS) + order) % 2


def _make_facts() -> dict[tuple[str, str], tuple[str, ...]]:
    random = Random("facts of the demo world")
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    for name in NAMES:
        facts[name, "home"] = (random.choice(WORDS),)
        facts[name, "pet"] = (random.choice(WORDS),)
        facts[name, "friend"] = (random.choice([other for other in NAMES if other != name]),)
        facts[name, "age"] = tuple(str(random.randrange(10, 100)))
    return facts


FACTS = _make_facts()  # held in the model's weights: no prompt states them


def make_context(random: Random, words: int, numbers: int, links: int) -> list[Statement]:
    """Draw that many statements of each kind, shuffled.

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
    """A fact of the demo world; half the time about someone whom the context says something else about."""
    name = random.choice(context).key if random.random() < 0.5 else random.choice(NAMES)
    relation = random.choice(sorted(RELATIONS))
    keyword = random.choice([relation, RELATIONS[relation]])
    content = f"{name} {relation}"
    order = random.randrange(2)
    return Question("knowledge_recall", keyword, (name,), FACTS[name, relation], content, order)


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
    """Whose number is the largest or the smallest; needs three numbers."""
    options = _of_kind(context, "number")
    if len(options) < 3:
        return None
    criterion = random.choice(("most", "least"))
    pick = max if criterion == "most" else min
    best = pick(options, key=lambda option: option.value)
    content = f"{criterion} {best.key} {best.value[0]}"
    return Question("decision_making", "choose", (criterion,), (best.key,), content)


def ask_semantics(random: Random, context: list[Statement]) -> Question | None:
    """Which word of the context is of the cue's class; needs three words."""
    words = [statement.value[0] for statement in _of_kind(context, "word")]
    if len(words) < 3:
        return None
    answer = random.choice(words)
    cue = random.choice([word for word in CLASSES[CLASS_OF[answer]] if word != answer])
    return Question("semantic_understanding", "like", (cue,), (answer,), f"{cue} {answer}")


def ask_syntax(random: Random, context: list[Statement]) -> Question:
    """The verb's form; the subject is the noun phrase without a preposition, and one distractor disagrees."""
    nouns = random.sample(sorted(PLURALS), 3)
    plural = random.random() < 0.5
    numbers = [not plural, random.random() < 0.5]
    random.shuffle(numbers)
    subject = ["the", PLURALS[nouns[0]] if plural else nouns[0]]
    phrases = []
    for noun, many in zip(nouns[1:], numbers, strict=True):
        phrases.append([random.choice(PREPOSITIONS), "the", PLURALS[noun] if many else noun])
    phrases.insert(random.randrange(3), subject)
    verb = random.choice(sorted(VERBS))
    answer = (verb if plural else VERBS[verb],)
    arguments = (verb, *itertools.chain.from_iterable(phrases))
    return Question("syntactic_understanding", "say", arguments, answer, f"{verb} {subject[1]}")


def ask_inference(random: Random, context: list[Statement]) -> Question | None:
    """The value of the name that a name links to: two hops; needs two links."""
    links = _of_kind(context, "link")
    if len(links) < 2:
        return None
    start = random.choice(links)
    values = {statement.key: statement.value for statement in context}
    answer = values[start.value[0]]
    return Question("inference", "trace", (start.key,), answer, " ".join((start.key, *answer)))


def ask_sum(random: Random, context: list[Statement]) -> Question:
    """The sum of two two-digit numbers, at most 99; the two orders of a pair share a content."""
    first = random.randrange(10, 90)
    second = random.randrange(10, 100 - first)
    arguments = (*str(first), "+", *str(second))
    content = f"{min(first, second)} {max(first, second)}"
    return Question("math_calculation", "sum", arguments, tuple(str(first + second)), content)


@dataclass(frozen=True)
class Language:
    """A task's way to ask, the contexts it stands in, and whether the answer depends on the context.

    `contexts` are choices of (words, numbers, links).
    """

    ask: Callable[[Random, list[Statement]], Question | None]
    contexts: tuple[tuple[int, int, int], ...]
    reads_context: bool


# Tasks with long questions get short contexts, so that prompts of all tasks are of about the same length.
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


def context_tokens(context: list[Statement]) -> list[str]:
    """The statements as words, separated by commas."""
    words: list[str] = []
    for statement in context:
        words += [",", statement.key, *statement.value]
    return words[1:]


def draw(random: Random, task: str, reserved: bool) -> tuple[list[Statement], Question]:
    """A context and a question of one task that is reserved, or not."""
    language = LANGUAGES[task]
    while True:
        context = make_context(random, *random.choice(language.contexts))
        question = language.ask(random, context)
        if question is not None and question.reserved == reserved:
            return context, question


def training_text(random: Random, length: int) -> tuple[list[str], list[bool]]:
    """One training sequence: a context and as many questions about it as fit `length` words.

    The first question is of a random task in a context made for it, as in a shipped item; more follow, of
    every task the context serves. None is reserved.

    Returns:
        The words, and for each whether it is part of an answer.
    """
    context, question = draw(random, random.choice(TASKS), reserved=False)
    words = context_tokens(context)
    is_answer = [False] * len(words)
    while True:
        asked = question.tokens(random.randrange(2))
        if len(words) + len(asked) + len(question.answer) > length:
            return words, is_answer
        words += [*asked, *question.answer]
        is_answer += [False] * len(asked) + [True] * len(question.answer)
        question = _next_question(random, context)


def _next_question(random: Random, context: list[Statement]) -> Question:
    while True:
        question = LANGUAGES[random.choice(TASKS)].ask(random, context)
        if question is not None and not question.reserved:
            return question


def task_items(task: str, seed: int = SEED, questions: int = QUESTIONS_PER_TASK) -> list[dict[str, str]]:
    """The shipped items of a task: `id`, `question_id`, `prompt`, `answer`; two phrasings a question."""
    random = Random(f"{seed} {task}")
    items = []
    for number, (context, question) in enumerate(_distinct(random, task, questions)):
        question_id = f"{task}-{number:03d}"
        for letter, (order, words) in zip("ab", _phrasings(random, context, question), strict=True):
            prompt = " ".join([*words, *order])
            answer = " ".join(question.answer)
            item = {
                "id": question_id + letter,
                "question_id": question_id,
                "prompt": prompt,
                "answer": answer,
            }
            items.append(item)
    return items


def _distinct(random: Random, task: str, number: int) -> Iterator[tuple[list[Statement], Question]]:
    """Draw reserved questions, no two the same; where the context gives the answer, it is part of the question."""
    seen: set[object] = set()
    while len(seen) < number:
        context, question = draw(random, task, reserved=True)
        about = frozenset(context) if LANGUAGES[task].reads_context else question.arguments
        key = (question.content, about)
        if key not in seen:
            seen.add(key)
            yield context, question


def _phrasings(
    random: Random, context: list[Statement], question: Question
) -> Iterator[tuple[list[str], list[str]]]:
    """Two phrasings of a question: statements in another order, keyword before and after its arguments."""
    for order in (0, 1):
        if question.order is not None:
            question = _recall_in_order(question, order)
        shuffled = random.sample(context, len(context))
        yield question.tokens(order), context_tokens(shuffled)


def _recall_in_order(question: Question, order: int) -> Question:
    """The reserved phrasing of a fact with this order: the order decides which keyword it takes."""
    relation = question.content.split()[1]
    for keyword in (relation, RELATIONS[relation]):
        phrased = Question(
            "knowledge_recall", keyword, question.arguments, question.answer, question.content, order
        )
        if phrased.reserved:
            return phrased
    raise AssertionError(f"fact {question.content!r} has no reserved phrasing in order {order}")


def write_tasks(folder: Path, seed: int = SEED) -> None:
    """Write `{task}.jsonl` of every task into `folder`, one item a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for task in TASKS:
        lines = [json.dumps(item) for item in task_items(task, seed)]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
