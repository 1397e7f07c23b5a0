"""The few facts about English that tell a noun from a verb, a plural from a singular, and what is not wanted."""

IRREGULAR_PLURALS = {
    "mice": "mouse", "children": "child", "men": "man", "women": "woman", "people": "person", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "oxen": "ox", "wolves": "wolf", "leaves": "leaf", "elves": "elf",
    "loaves": "loaf", "calves": "calf", "knives": "knife", "shelves": "shelf", "dwarves": "dwarf",
    "snowmen": "snowman", "firemen": "fireman", "policemen": "policeman", "mermen": "merman", "octopi": "octopus",
    "cacti": "cactus", "fungi": "fungus", "hippopotami": "hippopotamus", "dice": "dice", "lice": "louse",
    "butterflies": "butterfly", "fireflies": "firefly", "scarves": "scarf", "grandchildren": "child",
    "schoolchildren": "schoolchild", "kids": "kid", "spacemen": "spaceman", "cookies": "cookie", "pies": "pie",
    "zombies": "zombie", "movies": "movie", "doggies": "doggie", "birdies": "bird", "genies": "genie",
    "pixies": "pixie", "brownies": "brownie", "ties": "tie", "fishies": "fishie", "budgies": "budgie",
}  # fmt: skip

# The same in the singular and the plural: their number is one unless the text counts them or says "many".
NUMBER_WORDS = {
    "one": 1, "single": 1, "two": 2, "both": 2, "pair": 2, "couple": 2, "twin": 2, "three": 3, "trio": 3, "four": 4,
    "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "dozen": 12,
    "many": 5, "lots": 5, "several": 4, "some": 3, "few": 3, "group": 4, "herd": 4, "flock": 5, "school": 5,
    "family": 3, "pack": 3, "bunch": 4, "swarm": 5, "litter": 4, "pile": 4, "row": 4, "various": 4, "dozens": 12,
    "hundreds": 12, "countless": 8, "loads": 5, "plenty": 5, "crowd": 5, "pod": 3, "colony": 5, "tons": 5,
}  # fmt: skip
# These count only before "of": "a school of fish", but "a school".
COLLECTIVES = frozenset({
    "group", "herd", "flock", "school", "family", "pack", "bunch", "swarm", "litter", "pile", "row", "crowd", "pod",
    "colony", "lots", "loads", "plenty", "tons", "pair", "couple", "dozens", "hundreds",
})  # fmt: skip

DETERMINERS = frozenset({
    "a", "an", "the", "this", "that", "these", "those", "my", "your", "his", "her", "its", "our", "their", "some",
    "any", "another", "each", "every", "no",
})  # fmt: skip
PREPOSITIONS = frozenset({
    "in", "on", "at", "of", "with", "by", "near", "under", "over", "above", "below", "behind", "beside", "between",
    "into", "from", "inside", "around", "through", "across", "against", "among", "along", "past", "next", "for",
    "holding", "riding", "wearing", "eating", "chasing", "carrying", "driving", "reading", "watching", "and", "or",
    "like", "off", "onto", "outside", "toward", "towards", "without", "plus", "both",
})  # fmt: skip
INSIDE = frozenset({"in", "inside", "at", "on", "into", "within"})

# Words before which a verb stands ("to fly", "they watch"), never a noun.
VERB_LEADERS = frozenset({
    "to", "can", "will", "would", "could", "may", "might", "must", "should", "shall", "i", "you", "we", "they", "he",
    "she", "it", "who", "which", "let", "lets", "can't", "don't", "does", "do", "did", "didn't", "won't", "never",
    "always", "please",
})  # fmt: skip
# What follows a verb at the start of a text: "watch the stars", "fly over the hills".
VERB_FOLLOWERS = frozenset({
    "a", "an", "the", "to", "my", "your", "his", "her", "their", "this", "these", "over", "through", "up", "away",
    "out", "me", "us", "him", "it", "them",
})  # fmt: skip
# Nouns that are also verbs, in the singular: drawn only where a noun must stand.
VERBS_TOO = frozenset({
    "fly", "duck", "bat", "watch", "bear", "rose", "ring", "train", "seal", "swallow", "ram", "slide", "present",
    "ship", "ski", "drum", "plant", "cook", "guard", "rock", "ray", "coach", "lock", "box", "fire", "star", "cap",
    "hammer", "nest", "fish", "boot", "plate", "shed", "mill", "worm", "bug", "book", "sign", "letter", "dress",
    "chest", "shop", "toast", "bike", "bath", "sock", "sled", "sledge", "drone", "mirror", "map", "fork", "spoon",
    "man", "tower", "storm", "cart", "building", "painting", "shovel", "spade", "key", "kid", "fence", "wave",
    "sail", "park", "field", "sand", "road", "house", "store", "crane bird", "pilot", "captain", "doctor", "nurse",
    "log", "chick", "phone", "camera", "balloon", "parachute", "bee", "yarn", "harp", "sleigh", "ice", "snow",
    "rain", "light", "torch", "shell", "spy", "cloud", "leaf", "flower", "blossom", "bloom", "sprout", "feather",
    "picnic", "whale", "hound", "fox", "pup", "mushroom", "pie", "soup", "stew", "lion cub", "turkey", "plane",
    "thunder", "bubble", "ribbon", "bell", "umbrella", "ladder", "bone", "skull", "crown", "scooter", "space",
    "bow and arrow", "recorder", "well", "candy", "milk", "egg", "pepper", "salmon", "fair", "peak", "orbit",
    "hedge", "hatch", "sow", "hawk", "squid", "monkey", "parrot", "clam", "cod", "slug", "snail", "beast",
})  # fmt: skip
# Nouns that, straight before another noun, only say what it is like: "an orange cat", "a strawberry cake".
MODIFIERS = frozenset({
    "orange", "rose", "peach", "lemon", "cherry", "chocolate", "strawberry", "coral", "lilac", "lavender", "pumpkin",
    "apple", "ginger root", "candy", "diamond", "crystal", "ruby", "emerald", "honey", "milk", "salmon", "rock",
    "stone", "fire", "chestnut", "star", "heart", "rainbow", "flower", "banana", "blueberry", "raspberry", "coconut",
    "mango", "melon", "watermelon", "pineapple", "cheese", "corn", "wood", "straw hat", "present", "robot", "toy",
    "book", "picnic", "birthday", "moon", "sun", "moonlight", "thunder", "leaf", "log", "wool", "peanut", "mint",
    "butter", "snail", "bee", "doll", "fairy", "witch", "baby", "gift", "wheat", "bread", "olive", "tea", "coffee",
    "pirate", "cookie", "maple", "oak", "pine", "palm", "bamboo", "box", "soccer", "football", "basketball",
    "tennis", "music", "puzzle", "kid", "child", "carrot", "potato", "pea", "lollipop", "hat", "paper",
})  # fmt: skip

# What clothes may be, in the colors of the drawings.
COLORS = {
    "red": "#EA5A47", "orange": "#E27022", "yellow": "#FCEA2B", "green": "#5C9E31", "blue": "#61B2E4",
    "purple": "#B399C8", "violet": "#B399C8", "pink": "#FFA7C0", "brown": "#A57939", "black": "#3F3F3F",
    "white": "#FFFFFF", "grey": "#9B9B9A", "gray": "#9B9B9A", "golden": "#F1B31C", "gold": "#F1B31C",
    "silver": "#D0CFCE", "turquoise": "#4FC4B5", "lilac": "#B399C8",
}  # fmt: skip

NEGATIONS = frozenset({"no", "without", "not", "never", "except", "excluding", "minus", "avoid", "zero", "neither"})
# A negation holds through these: "no cars or houses", "without any people".
NEGATION_CARRIERS = frozenset({"or", "nor", "and", "any", "a", "an", "the", "other", "more", "many"})
# Where what is not wanted ends without a comma.
NEGATION_ENDS = frozenset({
    "with", "but", "in", "on", "at", "near", "under", "over", "behind", "beside", "just", "only", "playing", "is",
    "sitting", "standing", "there", "who", "that", "while", "next", "by", "instead", "please",
})  # fmt: skip

# Words for whole tables of the catalogue, for what is not wanted.
KINDS = {
    "animal": "animals", "creature": "animals", "pet": "animals", "person": "people", "human": "people",
    "plant": "plants", "building": "buildings", "vehicle": "vehicles", "food": "food",
}  # fmt: skip

NIGHT_WORDS = frozenset({"night", "nighttime", "midnight", "moonlit", "starry", "bedtime", "nocturnal"})
