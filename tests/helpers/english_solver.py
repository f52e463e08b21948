"""A second way to the answers of the English tasks: reads a prompt's last line as text and works the answer out.

Shares no code and no table with `headatlas.english.pack*`. What must be known stands here by key words: of each kind of
answer, stems that an entry may hold. `solve` refuses a line that no pattern, or more than one answer, fits.
"""

import re

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
WORD = dict(enumerate(WORDS))
NUMBER = {word: n for n, word in WORD.items()}

COLOR = {
    "red": "blood tomato strawberry ruby fire-truck stop-sign ladybug ketchup scarlet crimson cherry vermilion carmine",
    "blue": "sky sea sapphire ocean denim jeans cornflower lake navy azure cobalt indigo ultramarine",
    "green": "grass leaf spinach cucumber emerald lawn broccoli moss pine cactus olive lime jade mint",
    "yellow": "banana lemon butter sun canary sunflower mustard chick saffron straw",
    "white": "snow milk salt swan flour bear cotton snowman dress ivory pearl chalk alabaster eggshell",
    "black": "coal crow tar raven soot tire panther hat ebony jet onyx ink",
    "brown": "chocolate coffee mud bark trunk toast walnut soil log chestnut hazel mahogany",
}
ANIMAL = {
    "dog": "barks bark puppy kennel sticks stick guards guard hound poodle terrier beagle bulldog scent blind "
    "fetch bone wag",
    "cat": "meows meow purrs purr kitten litter nine mice mouse tabby tomcat kitty siamese calico scratch",
    "cow": "moos moo calf beef bull milked milk butter steaks heifer holstein hereford guernsey ayrshire",
    "horse": "neighs neigh foal saddle jockey carriages ride derby trot knight gallop mare stallion pony colt mustang",
    "sheep": "baas lamb wool shepherd shorn sweater yarn fleece ewe ram merino wether cheviot bleat",
    "pig": "oinks oink piglet piglets bacon sty ham pork hog sow boar swine berkshire roll grunt curl",
    "duck": "quacks quack duckling ducklings webbed ponds feathers bird pillow mallard drake teal eider pintail "
    "wings fly egg",
    "lion": "roars roar king mane zebra zebras pride beast everyone antelope",
}
COUNTRY = {
    "France": "paris lyon marseille nice bordeaux toulouse napoleon voltaire monet hugo gaulle debussy eiffel louvre "
    "versailles french notre omaha",
    "Italy": "rome milan venice naples florence turin dante galileo verdi mussolini michelangelo vivaldi colosseum "
    "pompeii vesuvius sistine etna",
    "Spain": "madrid barcelona seville malaga bilbao granada cervantes goya franco dali velazquez gaudi alhambra prado "
    "ibiza sagrada",
    "Germany": "berlin munich hamburg frankfurt cologne dresden goethe bach bismarck luther merkel nietzsche forest "
    "oktoberfest reichstag bavaria",
    "Japan": "tokyo osaka kyoto hiroshima nagoya nagasaki hirohito kurosawa hokusai mishima murakami miyazaki fuji "
    "sumo hokkaido",
    "China": "beijing shanghai wuhan nanjing shenzhen chengdu confucius mao deng yat lao jinping great forbidden "
    "terracotta tiananmen tibet yangtze",
    "India": "delhi mumbai bangalore chennai kolkata jaipur gandhi nehru tagore modi ashoka taj ganges bollywood "
    "goa fort",
    "Egypt": "cairo said giza luxor aswan suez cleopatra nasser sadat nefertiti tutankhamun mubarak pyramids sphinx "
    "nile pharaohs",
}
COUNT = {
    "two": "eyes eye bicycle wings wing hands-person hand-king chess ears ear duo pair couple twosome twins duet",
    "three": "tricycle triangle yard traffic pig trio threesome triad triplets trilogy trinity",
    "four": "dog car seasons season square violin horse quartet foursome tetrad quadruplets tetralogy",
    "five": "fingers-hand finger foot-toes toe pentagon basketball starfish quintet fivesome pentad quintuplets",
    "six": "insect ant hexagon cube guitar sextet hexad sextuplets",
    "seven": "week continents continent rainbow snow septet heptad septuplets",
    "eight": "spider octopus planets planet octagon octet octad octuplets",
    "ten": "decade hands-fingers dime feet-toes",
    "twelve": "months month dozen clock zodiac inches",
}
QUALITY = {
    "hot": "scorching boiling boiled sizzling roasting burning blazing fire oven grill burned",
    "cold": "freezing freezer icy chilly frosty frigid wintry winter snow ice fridge",
    "wet": "soaked damp moist drenched soggy dripping lake rain-left puddle sea shower",
    "dry": "arid parched waterless dehydrated rainless desiccated sun no-rain desert dryer wiped",
    "clean": "spotless washed immaculate scrubbed unsoiled hygienic wash polished washing",
    "dirty": "filthy muddy grimy soiled unwashed grubby mud chimney trash",
    "full": "packed crammed filled stuffed brimming crowded sixty tap",
    "empty": "vacant void unfilled unoccupied hollow deserted lost drunk robbed poured gave",
}
TOOL = {
    "knife": "cut slice peel carve chop",
    "cup": "drink tea cocoa",
    "key": "unlock open-lock car lock open-safe",
    "pen": "write sign-check form draw",
    "lamp": "light dark read brighten find",
    "phone": "call dial text ring",
    "hammer": "nail smash",
    "bed": "sleep rest nap lie dream",
}
OPPOSITES = "hot cold,wet dry,clean dirty,full empty"
ABLE = {
    "fly": "duck eagle bee bat", "bark": "dog puppy poodle beagle", "swim": "shark whale fish dolphin",
    "burn": "paper wood coal oil", "lay eggs": "hen duck turtle snake", "talk": "teacher child king doctor",
}  # fmt: skip
GOOD_REASONS = (  # cue of the situation, cue of the act
    "rainy umbrella", "dark lamp", "cold coat", "hungry eat", "very-thirsty drink", "tired bed", "broken doctor",
    "red stop", "dirty wash", "empty buy", "fresh bread", "fire department", "dry water", "hot window", "soon run",
    "empty fill", "broken fix", "low charge", "hungry feed", "honest trust",
)  # fmt: skip
FOLLOWS = {
    "sleeping": "asleep", "died": "dead", "stands open": "open", "has closed": "closed", "lottery": "lucky",
    "dances": "happy", "cries": "sad", "switched off": "off", "playing": "on", "fifty miles": "tall", "floats": "light",
    "could not be lifted": "heavy", "snail": "slow", "passed all": "fast", "shattered": "broken", "castles": "rich",
    "cannot pay": "poor", "marathon": "strong", "laugh.": "funny", "pin drop": "quiet",
}  # fmt: skip


def solve(text: str) -> str:
    """The answer to the last line of a prompt.

    Raises:
        ValueError: no pattern or more than one answer fits.
    """
    line = text.split("\n")[-1]
    found = [answer(*match.groups()) for pattern, answer in PATTERNS if (match := re.fullmatch(pattern, line))]
    if len(found) != 1:
        raise ValueError(f"{len(found)} patterns fit '{line}'")
    return found[0]


def known(table: dict[str, str], entry: str) -> str:
    """The one answer of which the entry holds a key word (`a-b`: both words)."""
    words = set(re.findall(r"\w+", entry.lower()))
    found = [answer for answer, keys in table.items() if any(set(key.split("-")) <= words for key in keys.split())]
    if len(found) != 1:
        raise ValueError(f"{found or 'nothing'} fits '{entry}'")
    return found[0]


def yes(right: bool) -> str:
    return "yes" if right else "no"


def reason_fits(reason: str, situation: str, act: str) -> bool:
    cue, acts = reason.split()
    return set(cue.split("-")) <= set(re.findall(r"\w+", situation)) and acts in act.split()


def singular(noun: str) -> str:
    return noun[:-2] if noun.endswith("xes") else noun.removesuffix("s")


def opposite(quality: str) -> str:
    pair = next(pair.split() for pair in OPPOSITES.split(",") if quality in pair.split())
    return pair[1 - pair.index(quality)]


def other_of(first: str, second: str, out: str) -> str:
    if out not in (first, second):
        raise ValueError(f"{out} is neither {first} nor {second}")
    return second if out == first else first


def chosen(table: dict[str, str], first: str, second: str, entry: str) -> str:
    answer = known(table, entry)
    if answer not in (first, second):
        raise ValueError(f"{answer} is neither {first} nor {second}")
    return answer


def noun_phrase(told: str, noun: str) -> str:
    """The word before the noun."""
    (word,) = re.findall(rf"(\w+) {noun}\b", told)
    return word


def role(told: str, asked: str) -> str:
    active, passive = (
        re.fullmatch(r"The (\w+) (\w+) the (\w+)\.", told),
        re.fullmatch(r"The (\w+) was \w+ by the (\w+)\.", told),
    )
    does, done_to = (active[1], active[3]) if active else (passive[2], passive[1])
    return done_to if asked.startswith("was ") else does


def more(first: str, a: str, second: str, b: str) -> str:
    if a == b:
        raise ValueError("as many")
    return first if NUMBER[a] > NUMBER[b] else second


def next_number(*three: str) -> str:
    one, two, last = (NUMBER[word] for word in three)
    if two - one != last - two:
        raise ValueError(f"{three} are not evenly spaced")
    return WORD[2 * last - two]


def placed(one: str, two: str, three: str, four: str, asked: str) -> str:
    """Who is first or last where one runs ahead of two and three ahead of four."""
    first = ({one, three} - {two, four}).pop()
    last = ({two, four} - {one, three}).pop()
    return first if asked == "first" else last


TRAVELLER = r"(\w+) came from (\w+) with a (\w+) (\w+) and (\w+) (\w+)\. "
PATTERNS = tuple(
    (re.compile(pattern), answer)
    for pattern, answer in (
        # knowledge recall
        (r"The color of ([^.]+) is", lambda entry: known(COLOR, entry)),
        (r"The animal that ([^.]+) is the", lambda entry: known(ANIMAL, entry)),
        (r"The number of ([^.]+) is", lambda entry: known(COUNT, entry)),
        (r"The city of (.+) is in", lambda entry: known(COUNTRY, entry)),
        (r"The famous (.+) came from", lambda entry: known(COUNTRY, entry)),
        (r"The thing that people use to (.+) is the", lambda entry: known(TOOL, entry)),
        (r"Can (?:an? )?(\w+) ([\w ]+)\?", lambda who, verb: yes(who in ABLE[verb].split())),
        # retrieval
        (TRAVELLER + r"The color of the (\w+) was", lambda *told: told[2] if told[3] == told[6] else None),
        (TRAVELLER + r"The animal of (\w+) was the", lambda *told: told[3] if told[0] == told[6] else None),
        (TRAVELLER + r"The number of (\w+) was", lambda *told: told[4] if told[5] == told[6] else None),
        (TRAVELLER + r"The home of (\w+) was", lambda *told: told[1] if told[0] == told[6] else None),
        (
            r"(\w+) has a (\w+)\. (\w+) has a (\w+)\. The animal of (\w+) is the",
            lambda a, x, b, y, who: {a: x, b: y}[who],
        ),
        (r"\w+ has a (\w+) (\w+)\. Is the \2 (\w+)\?", lambda color, _, asked: yes(color == asked)),
        # logical reasoning
        (r"\w+'s \w+ is (\w+) or (\w+)\. It is not (\w+)\. So it is", other_of),
        (r"\w+ has a (\w+) or a (\w+)\. It is not a (\w+)\. So it is a", other_of),
        (r"\w+ lives in (\w+) or (\w+)\. It is not (\w+)\. So it is", other_of),
        (r"\w+ has (\w+) or (\w+) \w+\. It is not (\w+)\. So it is", other_of),
        (
            r"If it is (\w+), (\w+) feeds the (\w+)\. If it is (\w+), \2 feeds the (\w+)\. "
            r"It is (\w+)\. So \2 feeds the",
            lambda day, _, animal, other_day, other_animal, now: {day: animal, other_day: other_animal}[now],
        ),
        (
            r"(All|No) (\w+) in (\w+) are (\w+)\. Rex is a (\w+) in \3\. Is Rex \4\?",
            lambda which, kind, _, __, animal: yes(which == "All") if singular(kind) == animal else None,
        ),
        # decision making
        (r"(?:\w+) has a (\w+) and a (\w+)\. To (.+), \w+ takes the", lambda *told: chosen(TOOL, *told)),
        (r"(?:\w+) can buy a (\w+) or a (\w+)\. To (.+), \w+ buys the", lambda *told: chosen(ANIMAL, *told)),
        (r"(?:\w+) has (\w+) and (\w+) ink\. To draw (.+), \w+ takes the", lambda *told: chosen(COLOR, *told)),
        (r"(?:\w+) can fly to (\w+) or (\w+)\. To see (.+), \w+ flies to", lambda *told: chosen(COUNTRY, *told)),
        (
            r"One shop asks (\w+) dollars for a \w+, another asks (\w+) dollars\. To save money, \w+ pays only",
            lambda *prices: min(prices, key=NUMBER.__getitem__),
        ),
        (
            r"(.+) Should Tom (.+)\?",
            lambda situation, act: yes(any(reason_fits(r, situation, act) for r in GOOD_REASONS)),
        ),
        # semantic understanding
        (r"The word (.+) means a kind of", lambda entry: known(ANIMAL, entry)),
        (r"The word (.+) means a shade of", lambda entry: known(COLOR, entry)),
        (r"The word (.+) means a group of", lambda entry: known(COUNT, entry)),
        (r"The word (.+) means about the same as", lambda entry: known(QUALITY, entry)),
        (r"The word (.+) means the opposite of", lambda entry: opposite(known(QUALITY, entry))),
        (r"Does (.+) mean about the same as (\w+)\?", lambda entry, word: yes(known(QUALITY, entry) == word)),
        # syntactic understanding
        (r"The (\w+) (?:near|behind|beside|under) the \w+", lambda noun: "are" if noun.endswith("s") else "is"),
        (r'In "The (\w+) \w+ the \w+", the subject is the', lambda noun: noun),
        (r"(The .+\.) The one that ((?:was )?\w+) was the", role),
        (r"(The .+ is .+\.) The color of the (\w+) is", noun_phrase),
        (r"(The .+ are .+\.) The number of (\w+) is", noun_phrase),
        (
            r'Is "the (\w+) (is|are) \w+" correct English\?',
            lambda noun, verb: yes((verb == "are") == noun.endswith("s")),
        ),
        # inference
        (r"It (.+, and now .+) is", lambda entry: known(QUALITY, entry)),
        (r"\w+ saw something (.+)\. It was a", lambda entry: known(ANIMAL, entry)),
        (r"\w+ woke up in a hotel in (.+)\. The country around \w+ was", lambda entry: known(COUNTRY, entry)),
        (r"The (\w+) has the same color as (.+)\. So the \1 is", lambda _, entry: known(COLOR, entry)),
        (r"(\w+) paid one coin for each (.+)\. All in all \1 paid", lambda _, entry: known(COUNT, entry)),
        (
            r"The (\w+) ran ahead of the (\w+)\. The (\w+) ran ahead of the (\w+)\. So the (first|last) one was the",
            placed,
        ),
        (
            r"(The .+\.) Is the \w+ (\w+)\?",
            lambda premise, state: yes([word for cue, word in FOLLOWS.items() if cue in premise] == [state]),
        ),
        # math calculation
        (r"(\w+) plus (\w+) is", lambda a, b: WORD[NUMBER[a] + NUMBER[b]]),
        (r"(\w+) minus (\w+) is", lambda a, b: WORD[NUMBER[a] - NUMBER[b]]),
        (r"(\w+), (\w+), (\w+), then", next_number),
        (
            r"\w+ saw a (\w+) (\w+) times and a (\w+) (\w+) times\. More often it was the",
            lambda one, a, other, b: more(one, a, other, b),
        ),
        (
            r"\w+ has (\w+) (\w+) hats and (\w+) (\w+) hats\. Most of them are",
            lambda a, one, b, other: more(one, a, other, b),
        ),
        (r"(\w+) scored (\w+) goals and (\w+) scored (\w+) goals\. The winner was", more),
        (r"Is (\w+) more than (\w+)\?", lambda a, b: yes(NUMBER[a] > NUMBER[b])),
    )
)
