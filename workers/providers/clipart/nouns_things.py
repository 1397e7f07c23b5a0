"""The nouns of things that have a drawing: sky, buildings, vehicles, objects and food.

The lines are as in :mod:`.nouns_alive`.
"""

SKY = """
2600            sky    3  sun, sunshine, sunbeam
1F31E           sky    3  smiling sun, sun with a face
1F319           sky    3  moon, crescent, crescent moon, moonlight, half moon
1F315           sky    3  full moon
2B50            sky    1  star, starlight
1F320           sky    2  shooting star, falling star
2604            sky    2  comet, meteor, asteroid, meteorite
2601+white      sky    3  cloud
26C8            sky    3  storm, thunderstorm, storm cloud, thunder
1F327           sky    3  rain, rain cloud, raindrop, rainstorm
26A1            sky    2  lightning, thunderbolt, lightning bolt
own-rainbow     sky    4  rainbow
2744            sky    1  snowflake
1F32A           ground 5  tornado, whirlwind, hurricane
1FA90           sky    3  planet, saturn
1F30D           sky    3  earth, globe, world globe, planet earth
1F386           sky    3  firework
2764            sky    1  heart
1F680           air    4  rocket, spaceship, spacecraft, rocket ship, space ship, starship, rocketship
E20B            air    4  space shuttle, shuttle
1F6F8           air    3  ufo, flying saucer, alien ship
1F6F0           air    2  satellite, space station
own-airballoon  air    4  hot air balloon, air balloon, hot-air balloon, airship, zeppelin, blimp
1F388           air    2  balloon
1FA81           air    2  kite
1FA82           air    3  parachute
1F681           air    3  helicopter, chopper
2708            air    3  airplane, aeroplane, plane, jet, aircraft, airliner
1F6E9           air    3  biplane, propeller plane, small plane
E1D2            air    2  drone, quadcopter
1FAE7           air    2  bubble, soap bubble
"""

BUILDINGS = """
1F3E0           ground 5  house, home, cottage, cabin, hut, gingerbread house, doll house, dollhouse, tiny house
1F3E1           ground 5  house with a garden, tree house, treehouse, farmhouse, farm house
1F3F0           ground 5  castle, palace, fortress, fairytale castle, fairy tale castle, sandcastle, sand castle, \
chateau
E208            ground 5  tower, wizard's tower
own-barn        ground 5  barn, stable, shed
own-lighthouse  ground 5  lighthouse, light house
own-windmill    ground 5  windmill, wind mill, mill
E2D1            ground 5  wind turbine
1F3EB           ground 5  school, schoolhouse
1F3E5           ground 5  hospital
1F3ED           ground 5  factory
1F3E2           ground 5  skyscraper, office building, building, office, apartment
1F3EA           ground 4  shop, store
26EA            ground 5  church, chapel, cathedral
1F54C           ground 5  mosque
1F54D           ground 5  synagogue
1F6D5           ground 5  temple, hindu temple
1F3EF           ground 5  japanese castle, pagoda
26E9            ground 5  torii, shrine
1F3DB           ground 5  museum, parthenon, courthouse, library building
1F5FC           ground 5  tokyo tower
E205            ground 5  eiffel tower
1F5FD           ground 5  statue of liberty
E20F            ground 5  pyramid
1F6D6           ground 5  straw hut, tiki hut
26FA            ground 4  tent, campsite, teepee, tipi, wigwam, yurt
1F3AA           ground 5  circus, circus tent, big top
26F2            ground 4  fountain
1F3A1           ground 5  ferris wheel, big wheel
1F3A0           ground 4  carousel, merry go round, merry-go-round, carousel horse, rocking horse
1F6DD           ground 4  slide, playground slide
1F30B           ground 5  volcano
1F3D4           ground 5  snowy mountain
1FAA8           ground 2  rock, stone, boulder, pebble
1F3DD           ground 5  island, desert island
own-igloo       ground 4  igloo
"""

VEHICLES = """
1F697           ground 4  car, automobile, sports car
1F3CE           ground 4  race car, racing car, racecar, formula one
1F695           ground 4  taxi, cab
1F693           ground 4  police car
1F699           ground 4  jeep, suv
1F6FB           ground 4  pickup, pickup truck, pick-up truck, monster truck
1F69A           ground 4  truck, lorry, dump truck, delivery truck, garbage truck, cement mixer
1F692           ground 4  fire truck, firetruck, fire engine
1F691           ground 4  ambulance
1F68C           ground 4  bus, coach, school bus, double decker bus
1F690           ground 4  van, minibus, camper, caravan, camper van
1F69C           ground 4  tractor, digger, bulldozer, excavator
1F682           ground 4  train, locomotive, steam train, steam engine, steam locomotive
1F683           ground 4  railway carriage, train car, wagon
1F684           ground 4  bullet train, high speed train
1F68B           ground 4  tram, streetcar, trolley
1F6B2           ground 3  bicycle, bike
1F3CD           ground 3  motorcycle, motorbike
1F6F5           ground 3  scooter, moped, vespa
1F6F4           ground 3  kick scooter
1F6F9           ground 2  skateboard
1F6FC           ground 2  roller skate, rollerblade
26F8            ground 2  ice skate
1F6F7           ground 3  sled, sledge, sleigh, toboggan
E344            ground 3  wheelbarrow
1F6D2           ground 3  shopping cart, cart
26F5            water  4  sailboat, boat, yacht, sailing boat, sail boat, sailing ship
1F6A2           water  5  ship, ocean liner, cruise ship, ferry, pirate ship, steamboat, titanic
1F6F6           water  3  canoe, kayak
1F6A3           water  4  rowing boat, rowboat, rower
1F6A4           water  4  speedboat, motorboat
own-submarine   under  4  submarine
"""

OBJECTS = """
26BD            ground 1  ball, soccer ball, football, soccer
1F3C0           ground 1  basketball
26BE            ground 1  baseball
1F3BE           ground 1  tennis ball, tennis
1F3D0           ground 1  volleyball, beach ball
1F3C8           ground 1  rugby ball, american football
1F94F           air    1  frisbee
1FA80           ground 1  yo-yo, yoyo
1F9E9           ground 1  puzzle, jigsaw, puzzle piece, jigsaw puzzle
1F3B2           ground 1  dice, die
1F381           ground 2  gift, present, gift box, birthday present
1F9F6           ground 1  yarn, ball of yarn, wool
1F3A8           ground 2  palette, paint palette
1F58D           ground 1  crayon
270F            ground 1  pencil
1F58C           ground 1  paintbrush, paint brush
2702            ground 1  scissors
1F4D6           ground 2  open book, storybook, story book, fairy tale book
1F4DA           ground 2  book, stack of books, pile of books
1F5FA           ground 2  map, treasure map, world map
1F9ED           ground 1  compass
1FA8E           ground 2  treasure chest, treasure, chest
1FA99           ground 1  coin, gold coin
1F48E           ground 1  gem, diamond, jewel, crystal, ruby, emerald
1F451           ground 1  crown, tiara
1F48D           ground 1  ring
1F5DD           ground 1  old key, magic key
1F511           ground 1  key
1F512           ground 1  padlock, lock
1FA84           ground 1  magic wand, wand
1F52E           ground 2  crystal ball
1F9F9           ground 2  broom, broomstick
1F5E1           ground 1  dagger
2694            ground 2  sword
1F6E1           ground 2  shield
1F3F9           ground 2  bow and arrow
2693            ground 2  anchor
1F6DF           ground 1  life ring, lifebuoy, life buoy
1FAA3           ground 1  bucket, pail
1F3D6           ground 3  beach umbrella, parasol, sunshade
2602            ground 3  umbrella
1F392           ground 2  backpack, rucksack, school bag, schoolbag
1F9F3           ground 2  suitcase, luggage
1F9FA           ground 2  basket, picnic basket, picnic
1F452           ground 1  straw hat, sun hat
1F3A9           ground 1  top hat, hat, magic hat
1F9E2           ground 1  baseball cap, cap
1F9E3           ground 1  scarf
1F9E4           ground 1  glove, mitten
1F9E6           ground 1  sock
1F457           ground 2  dress
1F455           ground 2  shirt, t-shirt, tshirt
1F462           ground 2  boot, wellie, rain boot
1F45F           ground 1  shoe, sneaker
1F453           ground 1  glasses, spectacles
1F576           ground 1  sunglasses
231A            ground 1  watch, wristwatch
23F0            ground 2  alarm clock, clock
1F570           ground 2  mantel clock
1F56F           ground 2  candle
1F3EE           ground 2  lantern
1F4A1           ground 2  light bulb, lightbulb
1F526           ground 1  torch, flashlight
1F525           ground 2  fire, campfire, bonfire, flame
1F514           ground 1  bell, jingle bell
1F380           ground 1  ribbon, bow, bow tie, hair bow
1F3C6           ground 2  trophy, cup trophy
1F3C5           ground 1  medal
1F3B8           ground 2  guitar, electric guitar
1F3BA           ground 2  trumpet
1F3B7           ground 2  saxophone
1F3BB           ground 2  violin, fiddle, cello
1F941           ground 2  drum, drum kit
1F3B9           ground 2  piano, keyboard
1FA97           ground 2  accordion
1FA95           ground 2  banjo
1FA88           ground 2  flute, recorder
1FA87           ground 2  maracas
1FA89           ground 3  harp
1F3A4           ground 1  microphone
1F3B5           air    1  music, musical note, music note
1F4F7           ground 1  camera
1F4FA           ground 3  television, tv
1F4BB           ground 2  laptop, computer
1F4DE           ground 1  telephone, phone
1F4F1           ground 1  smartphone, mobile phone
1F52D           ground 3  telescope
1F52C           ground 2  microscope
1F9F2           ground 1  magnet
1F528           ground 2  hammer
1F527           ground 1  wrench, spanner
1FA9A           ground 1  saw tool
1FA93           ground 2  axe, hatchet
1FA9C           ground 4  ladder
1FA8F           ground 2  shovel, spade
1F4EE           ground 3  postbox
1F4EA           ground 3  mailbox, letterbox
2709            ground 1  letter, envelope
1F6CB           ground 4  sofa, couch
1FA91           ground 3  chair, stool
E141            ground 4  armchair
1F6CF           ground 4  bed
1F6C1           ground 4  bathtub, bath, bath tub
1F6AA           ground 4  door
1FA9F           ground 3  window
1FA9E           ground 3  mirror
1F5BC           ground 3  picture frame, painting
1FAB9           ground 1  nest
1FABA           ground 1  nest with eggs, bird nest
1F578           ground 2  spiderweb, spider web, cobweb
1FAB6           air    1  feather
1F9B4           ground 1  bone, dog bone
1F3BF           ground 2  ski
1F4E6           ground 2  box, parcel, cardboard box
1F6A6           ground 3  traffic light
1F6D1           ground 3  stop sign
1FAA7           ground 2  sign, signpost
1F480           ground 2  skull
1FA94           ground 1  oil lamp, magic lamp, lamp
1FAD6           ground 2  teapot, tea pot
1F489           ground 1  syringe
1FA7A           ground 1  stethoscope
1F94A           ground 1  boxing glove
26F1            ground 3  sun umbrella
"""

FOOD = """
1F382           ground 2  cake, birthday cake, wedding cake
1F370           ground 1  slice of cake, piece of cake, cheesecake
1F9C1           ground 2  cupcake, muffin, fairy cake
1F366           ground 2  ice cream, ice cream cone, icecream, gelato, soft serve
1F368           ground 1  sundae, ice cream sundae
1F369           ground 1  donut, doughnut
1F36A           ground 1  cookie, biscuit
1F36B           ground 1  chocolate, chocolate bar
1F36C           ground 1  candy, sweets, bonbon
1F36D           ground 1  lollipop, lolly
1F36E           ground 1  pudding, custard, flan
1F36F           ground 1  honey, honey pot, honey jar
1F967           ground 1  pie, apple pie
1F95E           ground 1  pancake
1F9C7           ground 1  waffle
1F35E           ground 1  bread, toast, loaf
1F950           ground 1  croissant
1F956           ground 1  baguette
1F968           ground 1  pretzel
1F9C0           ground 1  cheese
1F95A           ground 1  egg, easter egg
1F373           ground 1  fried egg, frying pan
1F355           ground 2  pizza, slice of pizza
1F354           ground 2  hamburger, burger, cheeseburger
1F32D           ground 2  hot dog, hotdog
1F35F           ground 1  french fries, fries, chips
1F96A           ground 1  sandwich
1F32E           ground 1  taco
1F32F           ground 1  burrito
1F35D           ground 2  spaghetti, pasta
1F35C           ground 2  noodle, ramen
1F363           ground 1  sushi
1F372           ground 2  soup, stew, pot of food
1F957           ground 2  salad
1F37F           ground 2  popcorn
1F95B           ground 1  milk, glass of milk
1F9C3           ground 1  juice, juice box
1F375           ground 1  tea
2615            ground 1  coffee, cup, mug, hot chocolate, cocoa, teacup
1F379           ground 1  lemonade, cocktail
1F37D           ground 2  plate, dinner
1F944           ground 1  spoon
1F374           ground 1  fork, cutlery
1F942           ground 1  champagne
1F964           ground 1  milkshake, smoothie, soda
1F37C           ground 1  baby bottle
"""
