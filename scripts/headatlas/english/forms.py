"""The forms of the English tasks: how each asks, and about what. Standard library only.

A form is a function from a random generator to its cases. Colors, animals, numbers, countries, yes and no are
answers in most tasks, so that the answer does not tell the task.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from headatlas.english import facts
from headatlas.english.cases import (
    ANIMALS,
    COLORS,
    COUNTRIES,
    NAMES,
    NUMBERS,
    THINGS,
    Case,
    drawn,
    fact_cases,
    plural,
    swapped,
    yes_no_case,
)

Form = Callable[[Random], list[Case]]


def known(table: dict[str, tuple[str, ...]], template: str) -> Form:
    """The form that asks for the answer of a table's entry."""
    return lambda random: fact_cases(random, table, template)


def story(draw: Callable[[Random], Case]) -> Form:
    """The form whose cases are drawn."""
    return lambda random: drawn(random, draw)


# --- knowledge recall --------------------------------------------------------------------------------


def can(random: Random) -> list[Case]:
    cases = []
    for verb, (able, unable) in facts.CAN.items():
        for one, other in zip(able, unable, strict=True):
            for right, who, instead in ((True, one, other), (False, other, one)):
                edited = f"Can {instead} {verb}?"
                cases.append(yes_no_case(f"{verb} {who}", f"Can {who} {verb}?", right, edited, {verb, who}))
    return cases


# --- retrieval ---------------------------------------------------------------------------------------

ASKED = {  # what is asked about the traveller -> among which values
    "The color of the {animal} was": COLORS,
    "The animal of {name} was the": ANIMALS,
    "The number of {things} was": NUMBERS[1:],
    "The home of {name} was": COUNTRIES,
}


def traveller(random: Random, question: str) -> Case:
    """One of several things stated about somebody; the foil is not stated."""
    values = {values: random.choice(values) for values in ASKED.values()}
    color, animal, number, country = values.values()
    name, things = random.choice(NAMES), plural(random.choice(THINGS))
    told = f"{name} came from {country} with a {color} {animal} and {number} {things}."
    text = f"{told} {question.format(name=name, animal=animal, things=things)}"
    answer = values[ASKED[question]]
    foil = random.choice([value for value in ASKED[question] if value != answer])
    about = {name, things, foil, *values.values()}
    return Case(text, text, answer, foil, swapped(text, answer, foil), frozenset(about))


def owners(random: Random) -> Case:
    """Whose animal it is; the foil is stated, too."""
    (one, other), (animal, foil) = random.sample(NAMES, 2), random.sample(ANIMALS, 2)
    told = [f"{one} has a {animal}.", f"{other} has a {foil}."]
    random.shuffle(told)
    text, edited = (f"{' '.join(told)} The animal of {name} is the" for name in (one, other))
    return Case(text, text, animal, foil, edited, frozenset({one, other, animal, foil}))


def has(random: Random) -> Case:
    name, thing, (color, other) = random.choice(NAMES), random.choice(THINGS), random.sample(COLORS, 2)
    right = random.random() < 0.5
    texts = [f"{name} has a {color} {thing}. Is the {thing} {asked}?" for asked in (color, other)]
    text, edited = texts if right else texts[::-1]
    return yes_no_case(text, text, right, edited, {name, thing, color})


# --- logical reasoning -------------------------------------------------------------------------------

EITHER = {
    "{name}'s {thing} is {first} or {second}. It is not {out}. So it is": COLORS,
    "{name} has a {first} or a {second}. It is not a {out}. So it is a": ANIMALS,
    "{name} lives in {first} or {second}. It is not {out}. So it is": COUNTRIES,
    "{name} has {first} or {second} {things}. It is not {out}. So it is": NUMBERS[1:],
}


def either(random: Random, template: str) -> Case:
    """Either of two, but not the one, hence the other."""
    name, thing, (first, second) = random.choice(NAMES), random.choice(THINGS), random.sample(EITHER[template], 2)
    answer, foil = random.sample((first, second), 2)
    fill = {"name": name, "thing": thing, "things": plural(thing), "first": first, "second": second}
    text, edited = (template.format(out=out, **fill) for out in (foil, answer))
    return Case(text, text, answer, foil, edited, frozenset({name, thing, first, second}))


def all_or_no(random: Random) -> Case:
    animal, color, country = random.choice(ANIMALS), random.choice(COLORS), random.choice(COUNTRIES)
    right = random.random() < 0.5
    animals = plural(animal)
    texts = [
        f"{which} {animals} in {country} are {color}. Rex is a {animal} in {country}. Is Rex {color}?"
        for which in ("All", "No")
    ]
    text, edited = texts if right else texts[::-1]
    return yes_no_case(text, text, right, edited, {animal, color, country})


DAYS = ("sunny", "rainy", "snowy", "cloudy", "icy", "warm", "dark", "late", "early", "hot")


def if_then(random: Random) -> Case:
    """Two rules, one of which applies."""
    name, days, animals = random.choice(NAMES), random.sample(DAYS, 2), random.sample(ANIMALS, 2)
    rules = [f"If it is {day}, {name} feeds the {animal}." for day, animal in zip(days, animals, strict=True)]
    now = random.randrange(2)
    text, edited = (f"{' '.join(rules)} It is {day}. So {name} feeds the" for day in (days[now], days[1 - now]))
    return Case(text, text, animals[now], animals[1 - now], edited, frozenset({name, *days, *animals}))


# --- decision making ---------------------------------------------------------------------------------


def cheaper(random: Random) -> Case:
    """The lower of two prices; in the counterfactual it is above the other."""
    name, thing = random.choice(NAMES), random.choice(THINGS)
    low, high, above = sorted(random.sample(range(1, 12), 3))
    prices = random.sample((low, high), 2)
    text, edited = (
        f"One shop asks {NUMBERS[a]} dollars for a {thing}, another asks {NUMBERS[b]} dollars. "
        f"To save money, {name} pays only"
        for a, b in (prices, [above if price == low else price for price in prices])
    )
    about = {name, thing, NUMBERS[low], NUMBERS[high]}
    return Case(text, text, NUMBERS[low], NUMBERS[high], edited, frozenset(about))


def should(random: Random) -> list[Case]:
    cases = []
    for action, when, when_not in facts.SHOULD:
        texts = [f"{situation} Should Tom {action}?" for situation in (when, when_not)]
        cases.append(yes_no_case(action, texts[0], True, texts[1], {action}))
        cases.append(yes_no_case(action, texts[1], False, texts[0], {action}))
    return cases


# --- semantic understanding --------------------------------------------------------------------------


def same_meaning(random: Random) -> list[Case]:
    cases = []
    for word, entries in facts.MEANS.items():
        for place, entry in enumerate(entries):
            texts = [f"Does {entry} mean about the same as {w}?" for w in (word, facts.OPPOSITE[word])]
            right = place % 2 == 0
            text, edited = texts if right else texts[::-1]
            cases.append(yes_no_case(entry, text, right, edited, {word, entry, facts.OPPOSITE[word]}))
    return cases


# --- syntactic understanding -------------------------------------------------------------------------

VERBS = ("followed", "saw", "liked", "watched", "heard", "found", "passed", "met")
PLACES = ("near", "behind", "beside", "under")


def agreement(random: Random) -> Case:
    """The verb agrees with the head of the subject, not with the noun next to it."""
    noun, near = random.sample(THINGS, 2)
    number = random.randrange(2)
    near, place = random.choice((near, plural(near))), random.choice(PLACES)
    forms = (noun, plural(noun))
    text, edited = (f"The {form} {place} the {near}" for form in (forms[number], forms[1 - number]))
    return Case(text, text, ("is", "are")[number], ("are", "is")[number], edited, frozenset({*forms, near}))


def subject(random: Random) -> Case:
    (one, other), verb = random.sample(ANIMALS, 2), random.choice(VERBS)
    text = f'In "The {one} {verb} the {other}", the subject is the'
    return Case(text, text, one, other, swapped(text, one, other), frozenset({one, other}))


def role(random: Random) -> Case:
    """Agent or patient, in active and passive sentences."""
    (one, other), verb = random.sample(ANIMALS, 2), random.choice(("followed", "liked", "watched", "passed"))
    told = random.choice((f"The {one} {verb} the {other}.", f"The {other} was {verb} by the {one}."))
    asked, answer, foil = random.choice(((verb, one, other), (f"was {verb}", other, one)))
    text = f"{told} The one that {asked} was the"
    return Case(text, text, answer, foil, swapped(text, one, other), frozenset({one, other}))


def adjective(random: Random) -> Case:
    """Which of two nouns a color goes with."""
    (color, foil), (thing, near) = random.sample(COLORS, 2), random.sample(THINGS, 2)
    nouns = [f"{color} {thing}", f"{foil} {near}"]
    random.shuffle(nouns)
    told = f"The {nouns[0]} is {random.choice(PLACES)} the {nouns[1]}."
    text, edited = (f"{told} The color of the {asked} is" for asked in (thing, near))
    return Case(text, text, color, foil, edited, frozenset({color, foil, thing, near}))


def numeral(random: Random) -> Case:
    """Which of two nouns a number goes with."""
    (number, foil), (thing, near) = random.sample(NUMBERS[1:], 2), random.sample(THINGS, 2)
    nouns = [f"{number} {plural(thing)}", f"{foil} {plural(near)}"]
    random.shuffle(nouns)
    told = f"The {nouns[0]} are {random.choice(PLACES)} the {nouns[1]}."
    text, edited = (f"{told} The number of {plural(asked)} is" for asked in (thing, near))
    return Case(text, text, number, foil, edited, frozenset({number, foil, thing, near}))


def grammatical(random: Random) -> Case:
    thing, color, number = random.choice(THINGS), random.choice(COLORS), random.randrange(2)
    right = random.random() < 0.5
    noun, verbs = (thing, plural(thing))[number], (("is", "are"), ("are", "is"))[number]
    texts = [f'Is "the {noun} {verb} {color}" correct English?' for verb in verbs]
    text, edited = texts if right else texts[::-1]
    return yes_no_case(text, text, right, edited, {thing, plural(thing), color})


# --- inference ---------------------------------------------------------------------------------------


def implied(random: Random) -> list[Case]:
    cases = []
    for premise, follows, excluded in facts.IMPLIES:
        who = " ".join(premise.split()[:2]).lower()
        texts = [f"{premise} Is {who} {state}?" for state in (follows, excluded)]
        cases.append(yes_no_case(premise, texts[0], True, texts[1], {premise, follows, excluded}))
        cases.append(yes_no_case(premise, texts[1], False, texts[0], {premise, follows, excluded}))
    return cases


BETWEEN = ("goat", "wolf", "bear", "fox", "mouse", "rabbit")


def race(random: Random) -> Case:
    """First or last, from two comparisons."""
    (one, three), two = random.sample(ANIMALS, 2), random.choice(BETWEEN)
    told = [f"The {one} ran ahead of the {two}.", f"The {two} ran ahead of the {three}."]
    random.shuffle(told)
    texts = [f"{' '.join(told)} So the {place} one was the" for place in ("first", "last")]
    answer, foil = random.sample((one, three), 2)
    text, edited = texts if answer == one else texts[::-1]
    return Case(text, text, answer, foil, edited, frozenset({one, two, three}))


# --- math calculation --------------------------------------------------------------------------------


def total(random: Random) -> Case:
    one = random.randint(1, 9)
    other, edited = random.sample(range(1, 13 - one), 2)
    texts = [f"{NUMBERS[one - 1]} plus {NUMBERS[n - 1]} is" for n in (other, edited)]
    answer, foil = (NUMBERS[one + n - 1] for n in (other, edited))
    return Case(texts[0], texts[0], answer, foil, texts[1], frozenset({answer}))


def difference(random: Random) -> Case:
    one = random.randint(4, 12)
    other, edited = random.sample(range(1, one), 2)
    texts = [f"{NUMBERS[one - 1]} minus {NUMBERS[n - 1]} is" for n in (other, edited)]
    answer, foil = (NUMBERS[one - n - 1] for n in (other, edited))
    return Case(texts[0], texts[0], answer, foil, texts[1], frozenset({answer}))


def sequence(random: Random) -> Case:
    """Three numbers with one step between them, and the fourth; the foil continues another three."""
    step = random.choice((1, 2, 3, -1, -2))
    starts = [start for start in range(12) if 0 <= start + 3 * step < 12]
    start, other = random.sample(starts, 2)
    (text, answer), (edited, foil) = (
        (", ".join(NUMBERS[s + k * step] for k in range(3)) + ", then", NUMBERS[s + 3 * step]) for s in (start, other)
    )
    return Case(text, text, answer, foil, edited, frozenset({answer}))


COMPARED = {
    "{name} saw a {first} {a} times and a {second} {b} times. More often it was the": ANIMALS,
    "{name} has {a} {first} hats and {b} {second} hats. Most of them are": COLORS,
    "{first} scored {a} goals and {second} scored {b} goals. The winner was": COUNTRIES,
}


def compared(random: Random, template: str) -> Case:
    """The larger of two counts; in the counterfactual it is below the other."""
    name, (answer, foil) = random.choice(NAMES), random.sample(COMPARED[template], 2)
    below, low, high = sorted(random.sample(range(1, 12), 3))
    first, second = random.sample((answer, foil), 2)

    def shown(much: int) -> str:
        a, b = (NUMBERS[much if who == answer else low] for who in (first, second))
        return template.format(name=name, first=first, second=second, a=a, b=b)

    return Case(shown(high), shown(high), answer, foil, shown(below), frozenset({name, answer, foil}))


def more_than(random: Random) -> Case:
    low, middle, high = sorted(random.sample(range(12), 3))
    right = random.random() < 0.5
    texts = [f"Is {NUMBERS[n]} more than {NUMBERS[middle]}?" for n in (high, low)]
    text, edited = texts if right else texts[::-1]
    return yes_no_case(text, text, right, edited)


# --- all ---------------------------------------------------------------------------------------------

COLOR_TOLD, ANIMAL_TOLD, NUMBER_TOLD, COUNTRY_TOLD = (story(partial(traveller, question=q)) for q in ASKED)
COLOR_LEFT, ANIMAL_LEFT, COUNTRY_LEFT, NUMBER_LEFT = (story(partial(either, template=t)) for t in EITHER)
ANIMAL_MORE, COLOR_MORE, COUNTRY_MORE = (story(partial(compared, template=t)) for t in COMPARED)

FORMS: dict[str, dict[str, Form]] = {
    "knowledge_recall": {
        "color": known(facts.COLOR_OF, "The color of {entry} is"),
        "animal": known(facts.ANIMAL_THAT, "The animal that {entry} is the"),
        "number": known(facts.NUMBER_OF, "The number of {entry} is"),
        "country": known(facts.CITIES, "The city of {entry} is in"),
        "person": known(facts.PEOPLE, "The famous {entry} came from"),
        "tool": known(facts.TOOL_FOR, "The thing that people use to {entry} is the"),
        "can": can,
    },
    "retrieval": {
        "color": COLOR_TOLD,
        "animal": ANIMAL_TOLD,
        "number": NUMBER_TOLD,
        "country": COUNTRY_TOLD,
        "owner": story(owners),
        "has": story(has),
    },
    "logical_reasoning": {
        "color": COLOR_LEFT,
        "animal": ANIMAL_LEFT,
        "country": COUNTRY_LEFT,
        "number": NUMBER_LEFT,
        "if_then": story(if_then),
        "all_or_no": story(all_or_no),
    },
    "decision_making": {
        "tool": known(facts.TOOL_FOR, "{name} has a {first} and a {second}. To {entry}, {name} takes the"),
        "animal": known(facts.ANIMAL_FOR, "{name} can buy a {first} or a {second}. To {entry}, {name} buys the"),
        "color": known(facts.DRAWN_IN, "{name} has {first} and {second} ink. To draw {entry}, {name} takes the"),
        "country": known(facts.SIGHTS, "{name} can fly to {first} or {second}. To see {entry}, {name} flies to"),
        "price": story(cheaper),
        "should": should,
    },
    "semantic_understanding": {
        "animal": known(facts.KINDS_OF_ANIMAL, "The word {entry} means a kind of"),
        "color": known(facts.SHADES, "The word {entry} means a shade of"),
        "number": known(facts.NUMBER_WORDS, "The word {entry} means a group of"),
        "synonym": known(facts.MEANS, "The word {entry} means about the same as"),
        "antonym": known(
            {facts.OPPOSITE[word]: entries for word, entries in facts.MEANS.items()},
            "The word {entry} means the opposite of",
        ),
        "same": same_meaning,
    },
    "syntactic_understanding": {
        "agreement": story(agreement),
        "subject": story(subject),
        "role": story(role),
        "color": story(adjective),
        "number": story(numeral),
        "grammatical": story(grammatical),
    },
    "inference": {
        "result": known(facts.RESULTS, "It {entry} is"),
        "animal": known(facts.ANIMAL_SEEN, "{name} saw something {entry}. It was a"),
        "country": known(facts.CITIES, "{name} woke up in a hotel in {entry}. The country around {name} was"),
        "color": known(facts.COLOR_OF, "The {thing} has the same color as {entry}. So the {thing} is"),
        "number": known(facts.NEEDED_FOR_EACH, "{name} paid one coin for each {entry}. All in all {name} paid"),
        "race": story(race),
        "implied": implied,
    },
    "math_calculation": {
        "sum": story(total),
        "difference": story(difference),
        "sequence": story(sequence),
        "animal": ANIMAL_MORE,
        "color": COLOR_MORE,
        "country": COUNTRY_MORE,
        "more_than": story(more_than),
    },
}
