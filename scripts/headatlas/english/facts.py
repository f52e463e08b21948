"""Common knowledge that the English tasks assume. Standard library only.

Each table maps an answer to its entries. An entry fits no other answer of its table, because foils come from the same
table and must be wrong.
"""

COLOR_OF = {
    "red": ("blood", "a tomato", "a strawberry", "a ruby", "a fire truck", "a stop sign", "a ladybug", "ketchup"),
    "blue": ("the sky", "the sea", "a sapphire", "the ocean", "denim", "a cornflower"),
    "green": ("grass", "a leaf", "spinach", "a cucumber", "an emerald", "a lawn", "broccoli", "moss"),
    "yellow": ("a banana", "a lemon", "butter", "the sun", "a canary", "a sunflower", "mustard"),
    "white": ("snow", "milk", "salt", "a swan", "flour", "a polar bear", "cotton"),
    "black": ("coal", "a crow", "tar", "a raven", "soot", "a car tire"),
    "brown": ("chocolate", "coffee", "mud", "tree bark", "toast", "a walnut", "soil"),
}

SHADES = {
    "red": ("scarlet", "crimson", "ruby", "cherry", "vermilion", "carmine"),
    "blue": ("navy", "azure", "sapphire", "cobalt", "indigo", "ultramarine"),
    "green": ("emerald", "olive", "lime", "jade", "mint", "moss"),
    "yellow": ("lemon", "mustard", "canary", "saffron", "banana", "straw"),
    "white": ("ivory", "snow", "pearl", "chalk", "alabaster", "eggshell"),
    "black": ("ebony", "jet", "coal", "onyx", "ink", "raven"),
    "brown": ("chocolate", "chestnut", "coffee", "hazel", "walnut", "mahogany"),
}

DRAWN_IN = {  # which pen to take
    "red": ("a drop of blood", "a ripe tomato", "a stop sign", "a fire truck", "a strawberry", "a ladybug"),
    "blue": ("the clear sky", "the sea", "a sapphire", "an ocean wave", "a pair of jeans", "a lake"),
    "green": ("the grass", "a leaf", "a pine tree", "a cucumber", "a lawn", "a cactus"),
    "yellow": ("the sun", "a banana", "a lemon", "a sunflower", "a little chick", "a piece of butter"),
    "white": ("the snow", "a swan", "a polar bear", "a glass of milk", "a snowman", "a wedding dress"),
    "black": ("a crow", "a raven", "a piece of coal", "a panther", "a car tire", "a witch's hat"),
    "brown": ("a chocolate bar", "a tree trunk", "a walnut", "some mud", "a cup of coffee", "a log"),
}

ANIMAL_THAT = {
    "dog": ("barks", "grows from a puppy", "lives in a kennel", "fetches sticks", "guards the house"),
    "cat": ("meows", "purrs", "grows from a kitten", "uses a litter box", "is said to have nine lives"),
    "cow": ("moos", "grows from a calf", "gives us beef", "is the mate of a bull", "is milked in the barn"),
    "horse": ("neighs", "grows from a foal", "wears a saddle", "carries a jockey", "pulled the old carriages"),
    "sheep": ("baas", "grows from a lamb", "gives us wool", "is led by a shepherd", "is shorn in spring"),
    "pig": ("oinks", "grows from a piglet", "gives us bacon", "lives in a sty", "gives us ham"),
    "duck": ("quacks", "grows from a duckling", "has webbed feet", "swims on ponds", "has feathers"),
    "lion": ("roars", "is called the king of beasts", "has a mane and sharp claws", "hunts zebras", "lives in a pride"),
}

KINDS_OF_ANIMAL = {
    "dog": ("puppy", "hound", "poodle", "terrier", "beagle", "bulldog"),
    "cat": ("kitten", "tabby", "tomcat", "kitty", "Siamese", "calico"),
    "cow": ("calf", "heifer", "Holstein", "Hereford", "Guernsey", "Ayrshire"),
    "horse": ("mare", "stallion", "pony", "foal", "colt", "mustang"),
    "sheep": ("lamb", "ewe", "ram", "merino", "wether", "Cheviot"),
    "pig": ("piglet", "hog", "sow", "boar", "swine", "Berkshire"),
    "duck": ("mallard", "duckling", "drake", "teal", "eider", "pintail"),
}

ANIMAL_FOR = {  # what a farmer or a film maker wants it for
    "dog": ("guard the house", "track a scent", "lead a blind man", "play fetch", "fetch sticks"),
    "cat": ("catch mice", "hear it purr", "hear it meow", "raise a kitten", "keep a litter box"),
    "cow": ("get milk", "make butter", "get beef", "sell steaks", "raise a calf"),
    "horse": ("ride to town", "win the derby", "put on a saddle", "raise a foal", "carry a knight"),
    "sheep": ("get wool", "knit a sweater", "raise a lamb", "make yarn", "sell a fleece"),
    "pig": ("make bacon", "get ham", "make pork sausages", "raise piglets", "fill the sty"),
    "duck": ("get feathers", "own a bird", "fill a pillow", "hear it quack", "raise ducklings"),
    "lion": ("hear a roar", "show a wild beast", "film a hunter of zebras", "scare everyone", "film a pride"),
}

ANIMAL_SEEN = {  # what someone heard or saw it do
    "dog": ("bark at the mailman", "chew a bone", "wag its tail", "bring back a stick", "lie in its kennel"),
    "cat": ("purr on the sofa", "meow at the door", "hunt a mouse", "chase a toy mouse", "scratch the sofa"),
    "cow": (
        "moo in the barn",
        "nurse her calf",
        "stand beside a bull",
        "get milked",
        "fill the milk pail",
    ),
    "horse": ("gallop", "neigh in the stable", "carry a saddle", "trot around the track", "nurse her foal"),
    "sheep": ("lose its wool", "follow the shepherd", "bleat in its flock", "nurse her lamb", "get shorn"),
    "pig": ("roll in the mud", "oink in the sty", "grunt at the trough", "nurse her piglets", "curl its short tail"),
    "duck": ("quack on the pond", "lead her ducklings", "spread its wings", "fly over the lake", "lay an egg"),
    "lion": ("roar", "hunt a zebra", "shake its mane", "lead its pride", "eat an antelope"),
}

CITIES = {
    "France": ("Paris", "Lyon", "Marseille", "Nice", "Bordeaux", "Toulouse"),
    "Italy": ("Rome", "Milan", "Venice", "Naples", "Florence", "Turin"),
    "Spain": ("Madrid", "Barcelona", "Seville", "Malaga", "Bilbao", "Granada"),
    "Germany": ("Berlin", "Munich", "Hamburg", "Frankfurt", "Cologne", "Dresden"),
    "Japan": ("Tokyo", "Osaka", "Kyoto", "Hiroshima", "Nagoya", "Nagasaki"),
    "China": ("Beijing", "Shanghai", "Wuhan", "Nanjing", "Shenzhen", "Chengdu"),
    "India": ("Delhi", "Mumbai", "Bangalore", "Chennai", "Kolkata", "Jaipur"),
    "Egypt": ("Cairo", "Port Said", "Giza", "Luxor", "Aswan", "Suez"),
}

PEOPLE = {
    "France": ("Napoleon", "Voltaire", "Monet", "Victor Hugo", "Charles de Gaulle", "Debussy"),
    "Italy": ("Dante", "Galileo", "Verdi", "Mussolini", "Michelangelo", "Vivaldi"),
    "Spain": ("Cervantes", "Goya", "Franco", "Dali", "Velazquez", "Gaudi"),
    "Germany": ("Goethe", "Bach", "Bismarck", "Luther", "Angela Merkel", "Nietzsche"),
    "Japan": ("Hirohito", "Kurosawa", "Hokusai", "Mishima", "Murakami", "Miyazaki"),
    "China": ("Confucius", "Mao Zedong", "Deng Xiaoping", "Sun Yat-sen", "Lao Tzu", "Xi Jinping"),
    "India": ("Gandhi", "Nehru", "Tagore", "Modi", "Ashoka", "Indira Gandhi"),
    "Egypt": ("Cleopatra", "Nasser", "Sadat", "Nefertiti", "Tutankhamun", "Mubarak"),
}

SIGHTS = {
    "France": ("the Eiffel Tower", "the Louvre", "Versailles", "the French Alps", "Notre-Dame", "Omaha Beach"),
    "Italy": ("the Colosseum", "Pompeii", "Vesuvius", "the Sistine Chapel", "Mount Etna", "the canals of Venice"),
    "Spain": (
        "the Alhambra",
        "the Prado",
        "Ibiza",
        "Sagrada Familia",
        "the streets of Seville",
        "a bullfight in Madrid",
    ),
    "Germany": ("the Berlin Wall", "the Black Forest", "Oktoberfest", "the Reichstag", "Cologne Cathedral", "Bavaria"),
    "Japan": ("Mount Fuji", "Tokyo Tower", "the temples of Kyoto", "a sumo fight", "Hiroshima", "Hokkaido"),
    "China": (
        "the Great Wall",
        "the Forbidden City",
        "the Terracotta Army",
        "Tiananmen Square",
        "Tibet",
        "the Yangtze",
    ),
    "India": ("the Taj Mahal", "the Ganges", "Bollywood", "the beaches of Goa", "the Red Fort", "old Delhi"),
    "Egypt": (
        "the pyramids",
        "the Sphinx",
        "the Nile",
        "the Suez Canal",
        "the tombs of pharaohs",
        "the old town of Cairo",
    ),
}

NUMBER_OF = {
    "two": ("eyes on a face", "wheels on a bicycle", "wings on a bird", "hands on a person", "players in a chess game"),
    "three": ("wheels on a tricycle", "sides of a triangle", "feet in a yard", "colors on a traffic light"),
    "four": ("legs on a dog", "wheels on a car", "seasons in a year", "sides of a square", "strings on a violin"),
    "five": ("fingers on a hand", "toes on a foot", "sides of a pentagon", "players in a basketball team"),
    "six": ("legs on an insect", "sides of a hexagon", "faces of a cube", "strings on a guitar", "legs on an ant"),
    "seven": ("days in a week", "continents on Earth", "colors in a rainbow", "dwarfs with Snow White"),
    "eight": ("legs on a spider", "arms on an octopus", "planets around the Sun", "sides of an octagon"),
    "ten": ("years in a decade", "fingers on two hands", "cents in a dime", "toes on two feet"),
    "twelve": (
        "months in a year",
        "eggs in a dozen",
        "hours on a clock face",
        "signs of the zodiac",
        "inches in a foot",
    ),
}

NUMBER_WORDS = {
    "two": ("duo", "pair", "couple", "twosome", "twins", "duet"),
    "three": ("trio", "threesome", "triad", "triplets", "trilogy", "trinity"),
    "four": ("quartet", "foursome", "tetrad", "quadruplets", "tetralogy"),
    "five": ("quintet", "fivesome", "pentad", "quintuplets"),
    "six": ("sextet", "hexad", "sextuplets"),
    "seven": ("septet", "heptad", "septuplets"),
    "eight": ("octet", "octad", "octuplets"),
}

NEEDED_FOR_EACH = {  # one thing for each of them: how many things
    "two": ("eye of the face", "wheel of the bicycle", "wing of the bird", "hand of the king", "ear of the baby"),
    "three": ("wheel of the tricycle", "side of the triangle", "little pig of the tale", "light of the traffic light"),
    "four": ("leg of the dog", "wheel of the car", "season of the year", "side of the square", "hoof of the horse"),
    "five": ("finger of one hand", "toe of one foot", "side of the pentagon", "arm of the starfish"),
    "six": ("leg of the ant", "side of the hexagon", "face of the cube", "string of the guitar"),
    "seven": ("day of the week", "continent of the world", "color of the rainbow", "dwarf of Snow White"),
    "eight": ("leg of the spider", "arm of the octopus", "planet of the Sun", "side of the octagon"),
    "twelve": ("month of the year", "egg of the dozen", "hour of the clock face", "sign of the zodiac"),
}

MEANS = {
    "hot": ("scorching", "boiling", "sizzling", "roasting", "burning", "blazing"),
    "cold": ("freezing", "icy", "chilly", "frosty", "frigid", "wintry"),
    "wet": ("soaked", "damp", "moist", "drenched", "soggy", "dripping"),
    "dry": ("arid", "parched", "waterless", "dehydrated", "rainless", "desiccated"),
    "clean": ("spotless", "washed", "immaculate", "scrubbed", "unsoiled", "hygienic"),
    "dirty": ("filthy", "muddy", "grimy", "soiled", "unwashed", "grubby"),
    "full": ("packed", "crammed", "filled", "stuffed", "brimming", "crowded"),
    "empty": ("vacant", "void", "unfilled", "unoccupied", "hollow", "deserted"),
}
OPPOSITE = {"hot": "cold", "wet": "dry", "clean": "dirty", "full": "empty"}
OPPOSITE |= {value: key for key, value in OPPOSITE.items()}

RESULTS = {  # what has become of a thing, and the thing
    "hot": (
        "stood on the fire, and now the pot",
        "came out of the oven, and now the bread",
        "lay on the grill, and now the meat",
        "was boiled, and now the soup",
        "burned for an hour, and now the stove",
    ),
    "cold": (
        "stood in the freezer, and now the cup",
        "lay in the snow, and now the key",
        "was put on ice, and now the drink",
        "lay in the fridge, and now the milk",
        "stood out on a winter night, and now the car",
    ),
    "wet": (
        "fell into the lake, and now the coat",
        "was left in the rain, and now the shirt",
        "lay in a puddle, and now the hat",
        "dropped into the sea, and now the shoe",
        "stood in the shower, and now the dog",
    ),
    "dry": (
        "hung in the sun all day, and now the towel",
        "got no rain for a year, and now the field",
        "lay in the desert, and now the bone",
        "went through the dryer, and now the sock",
        "was wiped with a towel, and now the dish",
    ),
    "clean": (
        "was scrubbed with soap, and now the floor",
        "went through the car wash, and now the van",
        "was washed well, and now the plate",
        "was polished, and now the window",
        "was in the washing machine, and now the dress",
    ),
    "dirty": (
        "fell in the mud, and now the suit",
        "was driven through mud, and now the bus",
        "swept the chimney, and now the brush",
        "lay in the trash, and now the toy",
        "was used by muddy boots, and now the rug",
    ),
    "full": (
        "was filled to the brim, and now the glass",
        "took in sixty guests, and now the room",
        "was stuffed with clothes, and now the bag",
        "was packed with books, and now the box",
        "stood under the tap, and now the bucket",
    ),
    "empty": (
        "lost all its water, and now the pool",
        "was drunk up, and now the bottle",
        "was robbed of everything, and now the safe",
        "was poured out, and now the jug",
        "gave away its last coin, and now the purse",
    ),
}

TOOL_FOR = {
    "knife": ("cut bread", "slice a tomato", "peel an apple", "carve the meat", "chop onions"),
    "cup": ("drink coffee", "have some tea", "drink milk", "serve cocoa", "drink juice"),
    "key": ("unlock the door", "open the lock", "get into the car", "open the safe", "lock the gate"),
    "pen": ("write a letter", "sign a check", "write a note", "fill in a form", "draw a line"),
    "lamp": ("light the room", "see in the dark", "read at night", "brighten the hall", "find the way at night"),
    "phone": ("call a friend", "dial a number", "call the police", "send a text", "ring the office"),
    "hammer": ("drive in a nail", "hit a nail", "pound a nail", "smash a rock", "nail up a sign"),
    "bed": ("sleep", "rest at night", "take a nap", "lie down", "dream all night"),
}

CAN = {  # what some animals can do, and some cannot
    "fly": (("a duck", "an eagle", "a bee", "a bat"), ("a dog", "a cow", "a snake", "a pig")),
    "bark": (("a dog", "a puppy", "a poodle", "a beagle"), ("a fish", "a duck", "a bee", "a sheep")),
    "swim": (("a shark", "a whale", "a fish", "a dolphin"), ("a chair", "a rock", "a tree", "a key")),
    "burn": (("paper", "wood", "coal", "oil"), ("water", "sand", "ice", "rain")),
    "lay eggs": (("a hen", "a duck", "a turtle", "a snake"), ("a dog", "a cow", "a horse", "a sheep")),
    "talk": (("a teacher", "a child", "a king", "a doctor"), ("a rock", "a cup", "a tree", "a chair")),
}

SHOULD = (  # what Tom should do; when he should, and when not
    ("take an umbrella", "It is rainy.", "It is sunny."),
    ("turn on the lamp", "The room is dark.", "The room is bright."),
    ("wear a coat", "It is very cold outside.", "It is very hot outside."),
    ("eat something", "He is very hungry.", "He is very full."),
    ("drink some water", "He is very thirsty.", "He is not thirsty."),
    ("go to bed", "He is very tired.", "He is wide awake."),
    ("see a doctor", "His leg is broken.", "His leg is healthy."),
    ("stop the car", "The light is red.", "The light is green."),
    ("wash the shirt", "The shirt is dirty.", "The shirt is clean."),
    ("buy milk", "The milk bottle is empty.", "The milk bottle is full."),
    ("eat the bread", "The bread is fresh.", "The bread is rotten."),
    ("call the fire department", "The house is on fire.", "The house is for sale."),
    ("water the plant", "The soil is too dry.", "The soil is too wet."),
    ("open the window", "The room is too hot.", "The room is too cold."),
    ("run to the station", "The train leaves soon.", "The train leaves tomorrow."),
    ("fill the tank", "The tank is empty.", "The tank is full."),
    ("fix the roof", "The roof is broken.", "The roof is new."),
    ("charge the phone", "The battery is low.", "The battery is full."),
    ("feed the dog", "The dog is hungry.", "The dog is full."),
    ("trust the seller", "The seller is honest.", "The seller is dishonest."),
)

IMPLIES = (  # a premise; of the thing it is about, what follows and what cannot be
    ("The baby is sleeping.", "asleep", "awake"),
    ("The king has died.", "dead", "alive"),
    ("The door stands open.", "open", "closed"),
    ("The shop has closed for the night.", "closed", "open"),
    ("The boy just won the lottery.", "lucky", "unlucky"),
    ("The girl laughs and dances.", "happy", "sad"),
    ("The widow cries all day.", "sad", "happy"),
    ("The lamp was switched off.", "off", "on"),
    ("The radio is playing music.", "on", "off"),
    ("The tower can be seen from fifty miles away.", "tall", "short"),
    ("The feather floats in the wind.", "light", "heavy"),
    ("The rock could not be lifted by ten men.", "heavy", "light"),
    ("The snail took an hour to cross the path.", "slow", "fast"),
    ("The train passed all the cars.", "fast", "slow"),
    ("The vase hit the floor and shattered.", "broken", "whole"),
    ("The man owns three castles.", "rich", "poor"),
    ("The beggar cannot pay for bread.", "poor", "rich"),
    ("The soldier ran a marathon without a rest.", "strong", "weak"),
    ("The clown makes everybody laugh.", "funny", "boring"),
    ("The library is so still that one hears a pin drop.", "quiet", "loud"),
)
