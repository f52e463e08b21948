"""Lengths of texts in tokens, word by word, for the tokenizers of GPT-2 and SmolLM2. Standard library only.

Needs no tokenizer, so the English tasks come out the same everywhere. A counterfactual should have as many tokens as
its prompt, so that their positions correspond one to one.
"""

import re

# Words that one of the two tokenizers splits (after a space): number of tokens in GPT-2 and in SmolLM2. All other words
# are one token.
_PIECES = {
    (1, 2): (
        "Bangalore Chennai Forbidden Fuji Jinping Merkel Modi Osaka blazing crammed crimson denim derby dime "
        "dripping filthy grunt laughs raven roar ruby smash sofa sweater trilogy unlucky "
    ),
    (1, 3): ("Berkshire Mubarak "),
    (2, 1): (
        "Bavaria Giza Goethe Lao Mahal Michelangelo Monet Mussolini Nagasaki Nehru Pompeii Sphinx arid boar "
        "cactus canals carriages chestnut chimney cobalt cucumber dehydrated dryer dwarfs hazel hoof indigo "
        "jade octopus pyramids roasting scarlet scorching soot sunflower swine tombs triad vase wag walnut "
        "zebra zodiac "
    ),
    (2, 2): (
        "Ashoka Aswan Bollywood Chengdu Cheviot Dali Etna Familia Ganges Gaudi Gaulle Goa Goya Granada "
        "Hereford Holstein Ibiza Indira Louvre Luxor Malaga Mishima Nagoya Nanjing Nasser Prado Sadat Seville "
        "Sistine Suez Tagore Turin Tzu Verdi Voltaire Xiaoping Yat Zedong antelope azure baas barks beagle "
        "beggar bleat brighten brimming bulldog bullfight calico canary colt cornflower drake drenched "
        "duckling ducklings duet eggshell eider emerald ewe fetches fleece foal foursome frigid frosty gallop "
        "grimy heifer hexad hexagon hound jockey kitty ladybug mailman mallard mane mare meow meows merino "
        "milked moo moos mustang neighs octad octagon octet oink oinks onyx pail panther parched pentad "
        "pentagon piglet piglets pintail poodle puddle purr purrs quack quacks quadruplets quartet quintet "
        "rainless roars scrubbed shorn snowman soiled spotless stallion starfish steaks sumo swan swims tabby "
        "teal terrier tetrad tomcat tricycle trinity triplets trot unfilled unoccupied unwashed waterless "
        "webbed wether Dame "
    ),
    (2, 3): ("Debussy Marseille Shenzhen Vivaldi carmine ebony grubby ketchup "),
    (2, 4): ("Miyazaki "),
    (3, 1): ("Cleopatra Confucius Versailles Wuhan Yangtze saffron "),
    (3, 2): (
        "Cervantes Eiffel Jaipur Kolkata Sagrada Siamese desiccated kennel pharaohs sapphire sausages septet "
        "soggy twosome zebras "
    ),
    (3, 3): (
        "Ayrshire Bilbao Bordeaux Guernsey Hirohito Hokusai Murakami Reichstag Terracotta Tiananmen Toulouse "
        "Velazquez Vesuvius alabaster fivesome heptad immaculate mahogany octuplets quintuplets sextet "
        "sizzling tetralogy threesome ultramarine unsoiled vermilion wintry "
    ),
    (3, 4): ("Alhambra Hokkaido Kurosawa "),
    (4, 1): ("Bismarck hygienic "),
    (4, 3): ("Colosseum septuplets "),
    (4, 4): ("Nefertiti Tutankhamun sextuplets "),
    (4, 5): ("Oktoberfest "),
}
SPLIT_WORDS = {word: pieces for pieces, words in _PIECES.items() for word in words.split()}


# Words that both split only at the start of a line, where no space precedes them.
_AT_START = ("eleven", "twelve")


def tokens(text: str) -> tuple[int, int]:
    """Number of tokens of a line, or of a text inside a line, for GPT-2 and SmolLM2."""
    pieces = [SPLIT_WORDS.get(word, (1, 1)) for word in re.findall(r"'s\b|\w+|[^\w\s]+", text)]
    if text.startswith(_AT_START):
        pieces.append((1, 1))
    return sum(gpt2 for gpt2, _ in pieces), sum(smollm2 for _, smollm2 in pieces)
