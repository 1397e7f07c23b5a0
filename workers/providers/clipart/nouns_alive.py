"""The living nouns that have a drawing: animals, people and plants.

Each line of a table is ``drawing place size words``. ``drawing`` is the name of an OpenMoji file, with ``+part`` where
:mod:`.figures` adds to it, or ``own-name`` for a shape of ours. ``place`` is one of ``ground``, ``air`` (things that
fly), ``sky`` (what hangs there), ``under`` (in the water) and ``water`` (on it). ``size`` runs from 1, a ladybird, to
5, a house. The first word is the noun's name, the others are its synonyms, all in the singular.
"""

ANIMALS = """
own-dragon      ground 4  dragon, drake, wyvern, baby dragon, dinosaur dragon
1F415           ground 3  dog, puppy, pup, doggy, doggie, hound, labrador, retriever, beagle, \
dachshund, terrier, husky, dalmatian, corgi, bulldog, pug, sheepdog, chihuahua, golden retriever
1F429           ground 3  poodle
1F9AE           ground 3  guide dog, service dog
1F408           ground 2  cat, kitty, kitten, kittycat, tomcat, tabby, feline, pussycat, siamese
1F407           ground 2  rabbit, bunny, hare, bunny rabbit, easter bunny
1F401           ground 1  mouse, mousie, gerbil
1F400           ground 1  rat
1F439+body      ground 2  hamster, guinea pig
1F43F           ground 2  squirrel, chipmunk
1F994           ground 2  hedgehog, porcupine
1F98A+body      ground 3  fox, vixen, fox cub
1F43A+body      ground 3  wolf, werewolf, coyote, wolf cub
1F43B-200D-2744-FE0F+brown ground 4  bear, grizzly, bear cub, brown bear, grizzly bear
1F43B-200D-2744-FE0F ground 4  polar bear, white bear, ice bear
1F43C+body      ground 3  panda, panda bear, giant panda
1F428           ground 2  koala, koala bear
1F981+body      ground 4  lion, lioness, lion cub, lion king
1F405           ground 4  tiger, tigress, tiger cub
1F406           ground 4  leopard, cheetah, jaguar, panther, puma, lynx, cougar
1F40E           ground 4  horse, pony, stallion, mare, foal, mustang
1F40E+horn      ground 4  unicorn, alicorn
1F993           ground 4  zebra
1FACF           ground 4  donkey, mule
1F98C           ground 4  deer, stag, reindeer, doe, fawn, bambi, elk, antelope, gazelle, moose
1F9AC           ground 4  bison, yak
1F402           ground 4  ox, bull
1F403           ground 4  buffalo, water buffalo
1F404           ground 4  cow, calf, heifer, dairy cow, highland cow
1F416           ground 3  pig, piglet, piggy, hog, sow
1F417           ground 3  boar, wild boar, warthog
1F40F           ground 3  ram
1F411           ground 3  sheep, lamb, ewe
1F410           ground 3  goat, billy goat, ibex
1F42A           ground 4  camel, dromedary
1F42B           ground 4  bactrian camel
1F999           ground 4  llama, alpaca
1F992           ground 5  giraffe
1F418           ground 5  elephant
1F9A3           ground 5  mammoth, woolly mammoth
1F98F           ground 5  rhinoceros, rhino
1F99B           ground 5  hippopotamus, hippo
1F412           ground 3  monkey, ape, chimpanzee, chimp, baboon, lemur
1F98D           ground 4  gorilla
1F9A7           ground 4  orangutan
1F998           ground 4  kangaroo, wallaby
1F9A5           ground 3  sloth
1F9A6           ground 3  otter
1F9AB           ground 2  beaver, platypus
1F9A8           ground 2  skunk
1F9A1           ground 3  badger
1F99D           ground 3  raccoon, racoon, red panda
1F413           ground 2  rooster, chicken, hen, cockerel, cock
1F425           ground 2  chick, baby chick, baby bird
1F423           ground 2  hatching chick, hatchling
1F983           ground 2  turkey
1F426           ground 2  bird, sparrow, robin, songbird, blackbird, finch, crow, raven, magpie, starling, \
nightingale, cuckoo
1F54A           air    2  dove, pigeon, seagull, gull, swallow
1F985           air    3  eagle, hawk, falcon, vulture, condor
1F986           ground 2  duck, duckling, mallard, drake duck
1FABF           ground 2  goose, gosling
1F9A2           ground 3  swan, cygnet, ugly duckling
1F989           ground 2  owl, owlet, barn owl
1F9A9           ground 3  flamingo, crane bird, stork, heron, ostrich, emu
1F99A           ground 3  peacock, peahen
1F99C           ground 2  parrot, macaw, cockatoo, toucan
E010            ground 2  parakeet, budgie, canary, budgerigar
1F427           ground 3  penguin, puffin, baby penguin
1F9A4           ground 3  dodo
1F426-200D-1F525 air   3  phoenix, firebird
1F987           air    2  bat, vampire bat
1F438+body      ground 2  frog, toad, tree frog, froggy, frog prince
1F40A           ground 4  crocodile, alligator, croc, gator
1F422           ground 2  turtle, tortoise
1F98E           ground 2  lizard, gecko, salamander, newt, chameleon, iguana
1F40D           ground 2  snake, serpent, python, cobra, viper
1F995           ground 5  brontosaurus, sauropod, diplodocus, brachiosaurus, dinosaur, dino, plesiosaur
1F996           ground 5  tyrannosaurus, t rex, trex, t-rex, tyrannosaurus rex, raptor, velociraptor, tyrannosaur, \
godzilla
1F40B           under  5  whale, blue whale, humpback, sperm whale, humpback whale
1FACD           under  4  orca, killer whale
1F42C           under  4  dolphin, porpoise, narwhal
1F9AD           ground 3  seal, sea lion, walrus, seal pup
1F41F           under  2  fish, fishie, trout, salmon, cod, tuna, herring
1F420           under  2  tropical fish, clownfish, clown fish, angelfish, angel fish, seahorse, sea horse, ray, \
manta ray
E000            under  2  goldfish, gold fish, koi, carp
1F421           under  2  blowfish, pufferfish, puffer fish, puffer
1F988           under  4  shark, baby shark, great white, hammerhead
1F419           under  3  octopus, kraken
1F991           under  3  squid, cuttlefish
1FABC           under  2  jellyfish, jelly fish, medusa
1F980           ground 1  crab, hermit crab
1F99E           under  2  lobster, crayfish
1F990           under  2  shrimp, prawn
1F9AA           under  1  oyster, clam
1F41A           ground 1  shell, seashell, sea shell, conch, mussel
own-starfish    ground 1  starfish, sea star
1F40C           ground 1  snail, slug
1F98B           air    2  butterfly, moth, monarch, dragonfly, dragon fly
1F41B           ground 1  caterpillar, inchworm
1FAB1           ground 1  worm, earthworm
1F41C           ground 1  ant
1F41D           air    1  bee, honeybee, bumblebee, honey bee, bumble bee, wasp, hornet, firefly
1FAB2           ground 1  beetle, bug, scarab, insect
1F41E           ground 1  ladybug, ladybird, lady bug, lady beetle
1F997           ground 1  cricket, grasshopper, locust, mantis
1F577           ground 2  spider, tarantula
1F982           ground 2  scorpion
1F99F           air    1  mosquito, gnat
1FAB0           air    1  fly, housefly
1FAC8           ground 5  bigfoot, yeti, sasquatch
"""

PEOPLE = """
1F9D2+legs      ground 3  child, kid, toddler, preschooler, pupil, student, schoolchild
1F466+legs      ground 3  boy, son, brother, lad, schoolboy, little boy, hansel, tom, peter pan, pinocchio
1F467+dress     ground 3  girl, daughter, sister, schoolgirl, little girl, alice, gretel, dorothy, goldilocks
1F476+gown      ground 2  baby, infant, newborn
1F468+legs      ground 4  man, dad, father, daddy, papa, gentleman, uncle, guy, husband, boyfriend
1F469+dress     ground 4  woman, mom, mother, mum, mommy, mummy, mama, lady, aunt, wife, girlfriend
1F9D1+legs      ground 4  person, adult, friend, neighbor, neighbour, hero, explorer, adventurer, human, traveler, \
sailor
1F475+dress     ground 4  grandmother, grandma, granny, nana, old woman
1F474+legs      ground 4  grandfather, grandpa, granddad, old man
1F478+dress     ground 3  princess, cinderella, rapunzel, snow white, sleeping beauty, elsa
1F934+legs      ground 3  prince, little prince, prince charming
1FAC5+gown      ground 4  king, queen, monarch king, emperor, empress
1F9D9+gown      ground 4  wizard, mage, sorcerer, magician, merlin, warlock
1F9D9-200D-2640-FE0F+gown ground 4  witch, sorceress, enchantress
1F9DA+dress     ground 3  fairy, pixie, tinkerbell, tooth fairy, fairy godmother
1F9DD+legs      ground 3  elf, gnome, dwarf, garden gnome, leprechaun, goblin
1F9DC-200D-2640-FE0F under 4  mermaid, siren
1F9DC-200D-2642-FE0F under 4  merman, merfolk, poseidon, neptune
1F9B8+legs      ground 4  superhero, super hero, superman, supergirl, superheroine, batman, super girl
1F9B9+legs      ground 4  villain, supervillain
1F9DB+legs      ground 4  vampire, dracula
1F9DF+legs      ground 4  zombie
1F9CC+legs      ground 4  troll, ogre, orc
1F9D1-200D-1F680+legs ground 4  astronaut, cosmonaut, spaceman, space man, spacewoman, space explorer
1F9D1-200D-1F692+legs ground 4  firefighter, fireman, fire fighter, firewoman, fire man
1F9D1-200D-1F33E+legs ground 4  farmer, scarecrow
1F9D1-200D-1F373+legs ground 4  chef, cook, baker
1F9D1-200D-2695-FE0F+legs ground 4  doctor, nurse, vet, veterinarian
1F9D1-200D-1F3EB+legs ground 4  teacher
1F9D1-200D-1F3A8+legs ground 4  artist, painter
1F9D1-200D-2708-FE0F+legs ground 4  pilot, captain
1F9D1-200D-1F52C+legs ground 4  scientist
1F9D1-200D-1F527+legs ground 4  mechanic, plumber
1F9D1-200D-1F3A4+legs ground 4  singer, rock star, rockstar
1F477+legs      ground 4  builder, construction worker, bricklayer
1F46E+legs      ground 4  policeman, police officer, policewoman, cop
1F482+legs      ground 4  guard, soldier, royal guard, nutcracker
1F575+legs      ground 4  detective, spy
1F977+legs      ground 4  ninja, samurai
1F385+legs      ground 4  santa, santa claus, father christmas, saint nicholas
1F470+dress     ground 4  bride
1F935+legs      ground 4  groom
1F920+legs    ground 4  cowboy, cowgirl, sheriff
1F47C+gown      ground 3  angel, cupid, cherub
1F483           ground 4  dancer, ballerina, ballet dancer
own-knight      ground 4  knight, crusader, paladin, sir lancelot
1F93A           ground 4  fencer, musketeer
1F3C4           ground 4  surfer
1F6B4           ground 4  cyclist, biker, bike rider
1F3C7           ground 4  jockey, horse rider, horseback rider
1F939           ground 4  juggler
1F938           ground 4  gymnast, acrobat
26F7            ground 4  skier
1F3C2           ground 4  snowboarder
1F9DE           ground 4  genie, djinn
1F47B           air    3  ghost, spirit, phantom, spook
1F47D+body      ground 3  alien, martian, extraterrestrial, space alien
1F916+body      ground 3  robot, android, cyborg, droid
1F47E           ground 3  space invader
1F9F8           ground 3  teddy bear, teddy, plush bear, stuffed animal, plushie, plush toy
26C4            ground 4  snowman, snow man, snow woman
1F383           ground 2  jack o lantern, jack-o-lantern, pumpkin, halloween pumpkin
1F479           ground 4  monster, ogre mask, beast, demon
1FA86           ground 3  nesting doll, matryoshka, doll, dolly, babushka
1FA85           ground 3  pinata, piñata
1F921+body    ground 4  clown, jester
1F9D1-200D-1F384+legs ground 3  christmas elf, santa's helper
"""

PLANTS = """
own-tree        ground 5  tree, oak, apple tree, maple, oak tree, maple tree, cherry tree, birch, willow, chestnut tree
1F332           ground 5  pine, pine tree, fir, fir tree, evergreen, spruce, conifer, redwood
1F384           ground 5  christmas tree, xmas tree
1F334           ground 5  palm, palm tree, coconut tree, coconut palm
1FABE           ground 5  bare tree, leafless tree, dead tree, spooky tree
1FAB5           ground 2  log, stump, tree stump, firewood, wood
1F335           ground 3  cactus, saguaro
own-bush        ground 3  bush, shrub, hedge
1FAB4           ground 3  potted plant, houseplant, house plant, plant
1F337           ground 2  tulip
1F339           ground 2  rose
1F33B           ground 3  sunflower
1F33C           ground 2  flower, daisy, blossom, bloom, wildflower, buttercup, dandelion, marigold, daffodil
1F338           ground 2  cherry blossom, sakura, lily, orchid
1F33A           ground 2  hibiscus, poppy, carnation, peony
1FABB           ground 2  hyacinth, lavender, lilac, bluebell
1FAB7           ground 2  lotus, water lily, waterlily
1F490           ground 2  bouquet, bunch of flowers
1F331           ground 1  seedling, sprout, sapling
1F33F           ground 1  herb, fern
1F340           ground 1  four leaf clover, lucky clover
2618            ground 1  clover, shamrock
1F343           air    1  leaf
1F341           air    1  maple leaf, autumn leaf, fall leaf
1F342           air    1  fallen leaf
1F33E           ground 2  wheat, rice plant, barley
1F38B           ground 5  bamboo
1F344           ground 2  mushroom, toadstool, fungus
1FAB8           ground 2  coral
own-seaweed     ground 3  seaweed, kelp, algae, sea grass
1F345           ground 1  tomato
1F346           ground 1  eggplant, aubergine
1F955           ground 1  carrot
1F33D           ground 2  corn, maize
1F966           ground 1  broccoli, cauliflower
1F96C           ground 1  lettuce, cabbage, salad leaf, kale, spinach
1F952           ground 1  cucumber, zucchini, pickle
1F954           ground 1  potato
1F9C5           ground 1  onion
1F9C4           ground 1  garlic
1F336           ground 1  chili, chilli, hot pepper, pepper
1FAD1           ground 1  bell pepper, paprika
1FADB           ground 1  pea, pea pod, peapod
1FADC           ground 1  beet, beetroot, radish, turnip
1FADA           ground 1  ginger root
1F330           ground 1  chestnut, acorn, hazelnut, nut
1F95C           ground 1  peanut
1F34E           ground 1  apple, red apple
1F34F           ground 1  green apple
1F350           ground 1  pear
1F34A           ground 1  orange, tangerine, mandarin, clementine
1F34B           ground 1  lemon
1F34C           ground 1  banana
1F349           ground 2  watermelon
1F348           ground 1  melon, cantaloupe
1F347           ground 1  grape, bunch of grapes
1F353           ground 1  strawberry, raspberry, berry
1FAD0           ground 1  blueberry, blackberry
1F352           ground 1  cherry
1F351           ground 1  peach, apricot
1F96D           ground 1  mango, papaya
1F34D           ground 2  pineapple
1F965           ground 1  coconut
1F951           ground 1  avocado
1F95D           ground 1  kiwi
"""
