"""The settings: the words that name them, what else they show, and which one fits a subject that names none.

``subject`` is the drawing that a prompt is about which names the setting alone. Extras are drawings in the order of
their importance: ``back`` stand behind and large, ``front`` small and near, ``above`` hang or fly, ``floating`` swim.
A page takes as many as it has room for.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. ``words`` always name it; ``inside`` only after "in", "at" and the like ("in a house")."""

    words: str
    inside: str = ""
    subject: str = ""
    back: tuple[str, ...] = ()
    front: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    floating: tuple[str, ...] = ()


SETTINGS = {
    "garden": Setting(
        subject="1F407",
        words=(
            "garden, backyard, back yard, front yard, yard, flower bed, flowerbed, flower garden, vegetable garden, "
            "lawn, greenhouse"
        ),
        back=("own-tree", "own-bush"),
        front=("1F33B", "1F337", "1F344", "1F33C", "1F339", "1F40C"),
        above=("2600", "1F98B", "2601+white", "1F41D", "1F98B"),
    ),
    "underwater": Setting(
        subject="1F420",
        words=(
            "underwater, under the sea, under the ocean, under water, coral reef, reef, sea floor, ocean floor, "
            "seabed, "
            "aquarium, deep sea, bottom of the sea, bottom of the ocean, fish tank, fish bowl, under the waves, "
            "fishbowl, deep ocean"
        ),
        inside="pond",
        back=("own-seaweed", "own-seaweed", "1FAB8"),
        front=("own-starfish", "1F980", "1F41A", "1FAB8"),
        floating=("1F420", "1F41F", "E000", "1FABC", "1F420", "1F41F"),
    ),
    "sea": Setting(
        subject="26F5",
        words="sea, ocean, open sea, high seas, harbor, harbour, lake, river, bay, sail, wave",
        above=("2600", "2601+white", "1F54A", "2601+white"),
    ),
    "beach": Setting(
        subject="1F422",
        words="beach, seaside, shore, seashore, coast, sand, tropical island, sandy beach",
        inside="island",
        back=("1F334", "26F1"),
        front=("own-starfish", "1FAA3", "1F980", "1F41A"),
        above=("2600", "2601+white", "1F54A", "2601+white"),
    ),
    "forest": Setting(
        subject="1F98C",
        words="forest, wood, the woods, woodland, grove, rainy forest, enchanted forest, magic forest, pine forest",
        back=("1F332", "own-tree", "1F332", "own-tree", "1F332"),
        front=("1F344", "1F344", "1FAB5", "1F994", "1F33F", "own-bush"),
        above=("2600", "1F54A", "1F98B", "2601+white"),
    ),
    "jungle": Setting(
        subject="1F412",
        words="jungle, rainforest, rain forest, safari, savanna, savannah, tropics, zoo, swamp",
        back=("1F334", "own-tree", "1F334"),
        front=("1F33A", "1F33F", "1FAB4", "1F98E", "1F33A"),
        above=("2600", "1F98B", "1F98B"),
    ),
    "space": Setting(
        subject="1F680",
        words=(
            "space, outer space, galaxy, universe, cosmos, moon landing, solar system, lunar surface, milky way, mars, "
            "orbit"
        ),
        inside="moon, planet, star",
        above=("1FA90", "1F30D", "1F6F8", "1F320", "1F6F0", "2B50"),
    ),
    "city": Setting(
        subject="1F68C",
        words=(
            "city, town, street, downtown, village street, road, sidewalk, metropolis, new york, london, paris, tokyo, "
            "city street, main street, traffic, neighborhood, neighbourhood"
        ),
        back=("own-tree", "1F6A6"),
        front=("1F697",),
        above=("2600", "2601+white", "1F54A", "2601+white", "1F681"),
    ),
    "house": Setting(
        subject="1F408",
        words=(
            "living room, bedroom, kitchen, indoors, nursery, classroom, library, dining room, bathroom, playroom, "
            "attic, kindergarten, office room, workshop, laboratory, lab, indoor, fireplace, bakery, restaurant, cafe, "
            "room"
        ),
        inside="house, home, school, cottage, cabin, hut, museum, shop, store, hospital, office",
        back=("1F6CB", "1FAB4"),
        front=("1F9F8", "1F4DA", "26BD", "1F9F6"),
        above=("1F5BC",),
    ),
    "farm": Setting(
        subject="1F404",
        words=(
            "farm, barnyard, farmyard, ranch, countryside, orchard, cornfield, corn field, wheat field, pumpkin patch, "
            "vineyard"
        ),
        inside="barn, stable, field",
        back=("own-barn", "own-tree"),
        front=("1F413", "1F33D", "1F425", "1F33E", "1F425"),
        above=("2600", "2601+white", "2601+white", "1F98B"),
    ),
    "mountains": Setting(
        subject="1F410",
        words=(
            "mountain, mountaintop, mountain top, hill, hilltop, valley, alps, canyon, cliff, peak, highlands, "
            "mountainside"
        ),
        inside="cave",
        back=("1F332", "1F332"),
        front=("1FAA8", "1F33C", "1F33C", "own-bush"),
        above=("2600", "2601+white", "1F985", "2601+white"),
    ),
    "snow": Setting(
        subject="26C4",
        words=(
            "snow, winter, arctic, antarctica, north pole, south pole, ice, iceberg, blizzard, christmas, glacier, "
            "frozen lake, snowy, wintertime, antarctic, snowfall, winter wonderland"
        ),
        back=("1F332", "26C4", "1F332"),
        front=("1F332", "1FAA8"),
        above=("2744", "2601+white", "2744", "2744", "2601+white"),
    ),
    "desert": Setting(
        subject="1F42A",
        words="desert, dune, sahara, oasis, wild west, sand dune, egypt",
        back=("1F335", "1F335"),
        front=("1FAA8", "1F98E", "1F335"),
        above=("2600", "2601+white"),
    ),
    "playground": Setting(
        subject="1F9D2+legs",
        words="playground, park, amusement park, fairground, fair, theme park, carnival, recess",
        back=("1F6DD", "own-tree"),
        front=("26BD", "1F337", "1F33C", "1FA80"),
        above=("2600", "1FA81", "1F388", "2601+white"),
    ),
    "sky": Setting(
        subject="own-airballoon",
        words="among the clouds, above the clouds, heaven, over the clouds, through the clouds, through the air",
        inside="sky, cloud, air",
        above=("2600", "1F54A", "1F388"),
    ),
    "meadow": Setting(
        subject="1F40E",
        words=(
            "meadow, field, grass, grassland, prairie, pasture, flower field, outdoors, picnic blanket, spring meadow, "
            "glade"
        ),
        back=("own-tree", "own-bush"),
        front=("1F33C", "1F337", "1F33C", "1F41E", "1F33A"),
        above=("2600", "2601+white", "1F98B", "2601+white", "1F41D"),
    ),
}

# Where a subject lives, by the first word of its line in the catalogue. What is not named here lives in the meadow.
HOMES = {
    "meadow": "kite",
    "farm": (
        "cow, pig, sheep, goat, horse, rooster, chick, hatching chick, donkey, ram, ox, turkey, tractor, farmer, barn, "
        "goose, llama, windmill, corn, wheat, "
    ),
    "forest": (
        "bear, fox, wolf, deer, squirrel, hedgehog, owl, badger, skunk, raccoon, boar, elf, mushroom, bigfoot, beaver, "
        "troll, log, tent, fire, witch, bat"
    ),
    "jungle": (
        "lion, tiger, leopard, monkey, gorilla, orangutan, parrot, snake, elephant, giraffe, zebra, rhinoceros, "
        "hippopotamus, sloth, crocodile, panda, koala, kangaroo, brontosaurus, tyrannosaurus, lizard, parakeet, dodo, "
        "peacock, flamingo, bamboo, buffalo"
    ),
    "snow": (
        "polar bear, penguin, snowman, seal, santa, igloo, sled, skier, snowboarder, mammoth, ice skate, christmas "
        "tree, ski, christmas elf"
    ),
    "desert": "camel, bactrian camel, cactus, scorpion, pyramid, cowboy",
    "beach": "crab, surfer, shell, starfish, bucket, beach umbrella, palm, island, sun umbrella, lighthouse",
    "underwater": (
        "octopus, squid, jellyfish, lobster, shrimp, oyster, tropical fish, fish, goldfish, blowfish, shark, whale, "
        "orca, dolphin, mermaid, merman, submarine, coral, seaweed, treasure chest, anchor, turtle"
    ),
    "sea": "sailboat, ship, canoe, rowing boat, speedboat",
    "space": (
        "rocket, astronaut, alien, ufo, planet, satellite, space shuttle, star, moon, full moon, earth, comet, "
        "shooting "
        "star, space invader"
    ),
    "city": (
        "car, race car, taxi, police car, truck, fire truck, ambulance, bus, van, tram, motorcycle, scooter, kick "
        "scooter, skateboard, firefighter, policeman, superhero, skyscraper, traffic light, stop sign, bicycle, "
        "cyclist, robot, shop, villain, detective, school, hospital"
    ),
    "house": (
        "sofa, chair, armchair, bed, bathtub, cake, cupcake, teddy bear, piano, television, chef, book, candle, "
        "teapot, "
        "pizza, gift, laptop, mirror, doctor, teacher, scientist, artist, pudding, nesting doll, violin, drum, guitar, "
        "cookie, bread, pie, donut, ice cream, sundae, hamburger, sandwich, coffee, tea, lollipop, window, "
        "door, "
        "singer, mantel clock, alarm clock, potted plant, microscope, hamster, ginger root, grandmother, "
        "grandfather, palette, pancake, waffle, spaghetti, soup, salad"
    ),
    "sky": (
        "airplane, biplane, helicopter, hot air balloon, parachute, balloon, dove, eagle, phoenix, cloud, rainbow, "
        "angel, drone"
    ),
    "garden": (
        "butterfly, bee, caterpillar, snail, ladybug, ant, worm, beetle, sunflower, tulip, rose, flower, fairy, "
        "carrot, "
        "tomato, strawberry, wheelbarrow, cricket, hibiscus, hyacinth, rabbit, mouse, frog, bird, apple, pea, spider"
    ),
    "mountains": "castle, snowy mountain, volcano, king, knight, fencer, tower",
}
