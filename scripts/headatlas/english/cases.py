"""Cases of the English tasks: a question with its answer, a foil, and the edit that makes the foil right.

Knows the shared vocabulary; knows no task. Standard library only.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from headatlas.english.tokens import tokens

NAMES = (
    "Tom", "Anna", "Ben", "Mary", "Sam", "Sarah", "Jack", "Jane", "Paul", "Alice", "Mark", "Maria", "Peter", "Alex",
)  # fmt: skip
COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown")
ANIMALS = ("dog", "cat", "cow", "horse", "sheep", "pig", "duck", "lion")
COUNTRIES = ("France", "Italy", "Spain", "Germany", "Japan", "China", "India", "Egypt")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
THINGS = ("box", "cup", "hat", "ball", "chair", "car", "book", "door", "bag", "coat")
YES_NO = ("yes", "no")
POOL = 400  # cases drawn per form, from which items, examples and partners are taken


@dataclass(frozen=True)
class Case:
    """A question of one form.

    `key` names what is asked: cases of one key are one question. `text` precedes the answer. In `counterfactual`, a
    minimal edit of the text, the foil is right. `about`: names and values in text and answer, which no example for this
    case may share.
    """

    key: str
    text: str
    answer: str
    foil: str
    counterfactual: str
    about: frozenset[str]


def swapped(text: str, one: str, other: str) -> str:
    """The text with two words exchanged."""
    return re.sub(rf"\b(?:{one}|{other})\b", lambda found: other if found[0] == one else one, text)


def plural(noun: str) -> str:
    return noun if noun == "sheep" else noun + ("es" if noun.endswith("x") else "s")


def drawn(random: Random, draw: Callable[[Random], Case]) -> list[Case]:
    """Draw until there are `POOL` different cases, or stop after ten times as many draws."""
    cases: dict[str, Case] = {}
    for _ in range(10 * POOL):
        case = draw(random)
        cases.setdefault(case.text, case)
        if len(cases) == POOL:
            break
    return list(cases.values())


def fact_cases(random: Random, table: Mapping[str, Sequence[str]], template: str) -> list[Case]:
    """A case of every entry of a table; its counterfactual asks about an entry of the foil instead.

    Args:
        table: from an answer to its entries.
        template: `{entry}` stands for the entry; `{name}` and `{thing}` for any, `{first}` and `{second}` for
            answer and foil, in turn in this order and the other.
    """
    cases = []
    for answer, entries in table.items():
        for entry in entries:
            foil, other = _foil(random, table, answer, entry)
            first, second = (answer, foil) if len(cases) % 2 else (foil, answer)
            fill = {"name": random.choice(NAMES), "thing": random.choice(THINGS), "first": first, "second": second}
            text, edited = (template.format(entry=shown, **fill) for shown in (entry, other))
            about = {answer, entry, *([fill["name"]] if "{name}" in template else [])}
            cases.append(Case(entry, text, answer, foil, edited, frozenset(about)))
    return cases


def _foil(random: Random, table: Mapping[str, Sequence[str]], answer: str, entry: str) -> tuple[str, str]:
    """Another answer with its own entry, of the same number of tokens if possible."""
    others = [(foil, other) for foil in table if foil != answer for other in table[foil]]
    alike = [pair for pair in others if tokens(pair[1]) == tokens(entry)] or others
    foil = random.choice(sorted({foil for foil, _ in alike}))
    return foil, random.choice([other for name, other in alike if name == foil])


def yes_no_case(key: str, text: str, right: bool, counterfactual: str, about: Iterable[str] = ()) -> Case:
    """A case whose answer is yes if `right`, otherwise no."""
    answer, foil = YES_NO if right else YES_NO[::-1]
    return Case(key, text, answer, foil, counterfactual, frozenset(about))
