"""Compose an image: the position and size of each object. Pure geometry; :mod:`.draw` paints it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random

from workers.providers.clipart import clothes, drawings
from workers.providers.clipart.backdrops import BACKDROPS
from workers.providers.clipart.catalogue import Entry, by_drawing, homes
from workers.providers.clipart.geometry import SHORT_SIDE, Backdrop, Page, Placement, Scene, Shape
from workers.providers.clipart.packing import Obstacle, Zone, boxes, place
from workers.providers.clipart.settings import SETTINGS, Setting
from workers.providers.clipart.words import Noun, Wish

_LINE_WIDTH = 6.2
# The heights of things, by size, where they stand: in the back, between, and in front.
_HEIGHTS = {1: 105.0, 2: 150.0, 3: 215.0, 4: 270.0, 5: 360.0}
_SKY_HEIGHTS = {1: 90.0, 2: 125.0, 3: 165.0, 4: 230.0, 5: 260.0}
_TITLE_SHARE = 0.34
_NIGHT_SKY = ("#27325F", "#7C8CC4")
# What takes the place of an extra of the day: the moon for the sun, stars for clouds and butterflies.
_BY_NIGHT = {"2600": "1F319", "2601+white": "2B50", "1F98B": "2B50", "1F41D": "2B50", "1F54A": "1F987"}
_MOST_PLACED = 40
# How large anything else on the ground may be, in areas of the subject.
_LARGEST_OTHER = 0.9


@dataclass(frozen=True, slots=True)
class Brief:
    """The order to compose: the parsed prompt, the type of image, its size in pixels, and its richness.

    ``cast`` are figures that are the subject of the image, whatever the prompt names. The backdrop has the colors of
    ``palette``.
    """

    wish: Wish
    type: str
    width: int
    height: int
    seed: int
    style: str = ""
    cast: tuple[Entry, ...] = ()
    palette: Backdrop | None = None

    @property
    def subject(self) -> Noun | None:
        """The main figure."""
        return Noun(self.cast[0]) if self.cast else self.wish.main

    @property
    def richness(self) -> float:
        style = self.style.lower()
        if any(word in style for word in ("simple", "toddler", "minimal", "preschool")):
            return 0.45
        return 1.5 if any(word in style for word in ("detail", "intricate", "complex")) else 1.0


def compose(brief: Brief) -> Scene:
    """The scene of a brief that has a cast, or whose wish names at least one noun or a setting."""
    return _Composer(brief).scene()


def setting_for(wish: Wish, cast: tuple[Entry, ...] = ()) -> str:
    """The setting that the wish names, corrected for a subject that cannot be there, else the subject's home. With a
    cast, the home of the first other noun comes before that of the subject."""
    main = Noun(cast[0]) if cast else wish.main
    if main is None:
        return wish.setting or "meadow"
    at_home = [noun.entry.name for noun in (*wish.nouns, main)] if cast else [main.entry.name]
    named = wish.setting or next((homes()[name] for name in at_home if name in homes()), "meadow")
    afloat = any(noun.entry.place == "water" for noun in wish.nouns)
    if named == "sea":
        return {"under": "sea" if afloat else "underwater", "ground": "beach"}.get(main.entry.place, "sea")
    if main.entry.place == "under" and named in ("beach", "underwater"):
        return "sea" if afloat else "underwater"
    return named


class _Composer:
    def __init__(self, brief: Brief) -> None:
        self.brief = brief
        self.rng = Random(brief.seed)  # noqa: S311 - it places drawings
        self.is_plain = brief.type == "character-reference"
        self.name = "plain" if self.is_plain else setting_for(brief.wish, brief.cast)
        self.setting = SETTINGS.get(self.name, Setting(words=""))
        unit = SHORT_SIDE / min(brief.width, brief.height)
        width, height = brief.width * unit, brief.height * unit
        self.framed = brief.type == "coloring-page"
        self.inset = 58.0 if self.framed else 34.0
        self.top = height * _TITLE_SHARE if brief.type == "cover" else 0.0
        sky = 0.68 if self.top else {"underwater": 0.6, "sky": 0.8, "space": 0.62, "sea": 0.56}.get(self.name, 0.54)
        ground = 0.9 if self.top or self.name == "sky" else 0.86
        self.page = Page(width, height, height * sky, height * ground)
        self.line_width = _LINE_WIDTH * {0.45: 1.3, 1.5: 0.85}.get(brief.richness, 1.0)
        self.placed: list[Placement] = []
        self.at_night = brief.wish.at_night and self.name not in ("house", "underwater", "space", "plain")
        self.backdrop: Backdrop = BACKDROPS[self.name](self.page, self.rng)
        if brief.palette:
            self.backdrop = repainted(self.backdrop, brief.palette)
        elif self.at_night:
            self.backdrop = replace(self.backdrop, sky=_NIGHT_SKY)

    def scene(self) -> Scene:
        if self.is_plain:
            self._place_reference()
        else:
            self._place_all()
        return Scene(
            page=self.page,
            backdrop=self.backdrop,
            placements=tuple(sorted(self.placed, key=lambda item: (item.place != "sky", item.base))),
            colored=self.brief.type != "coloring-page",
            line_width=self.line_width,
            framed=self.framed,
            margin=24.0 if self.framed else 0.0,
            panel=(70.0, 60.0, self.page.width - 140.0, self.top - 90.0) if self.top else None,
        )

    # The subject

    def _main(self) -> Noun:
        main = self.brief.subject
        return main or Noun(by_drawing()[SETTINGS[setting_for(self.brief.wish)].subject])

    def _place_reference(self) -> None:
        """The subject small, in the middle and large on one line, the first two facing each other."""
        if len(self.brief.cast) > 1:
            self._place_cast()
            return
        entry = self._main().entry
        room = self.page.width * 0.88
        shares = (0.5, 0.72, 1.0)
        aspect = _aspect(entry)
        gap = min(room * 0.12, 150.0)
        height = min(self.page.height * 0.7, (room - 2 * gap) / (aspect * sum(shares)))
        x = (self.page.width - height * aspect * sum(shares)) / 2 - gap
        for share, mirrored in zip(shares, (False, True, False), strict=True):
            item = _sized(entry, "main" if share == 1.0 else "group", height * share)
            x += item.width / 2
            self.placed.append(replace(item, x=x, base=self.page.ground, mirrored=mirrored, shadow=True))
            x += item.width / 2 + gap

    def _place_all(self) -> None:
        main = self._main()
        others = [noun for noun in self.brief.wish.nouns if noun.entry.drawing != main.entry.drawing]
        obstacles = self._fixed_obstacles()
        if self.brief.type == "background":
            others = [noun for noun in self.brief.wish.nouns if not noun.entry.is_character]
            calm = self.page.width * 0.27
            obstacles.append(
                Obstacle(self.page.width / 2 - calm, self.page.y(0.2), self.page.width / 2 + calm, self.page.height)
            )
        elif len(self.brief.cast) > 1:
            self._place_cast()
        else:
            count = self._count(main)
            self._place_main(
                main.entry, count, beside=any(noun.entry.size > 2 and self._stands(noun) for noun in others)
            )
        for noun in sorted(others, key=lambda noun: -noun.entry.size):
            for _ in range(min(self._count(noun), _MOST_PLACED - len(self.placed))):
                self._add(noun.entry, obstacles, wanted=True)
        self._place_extras(main.entry, obstacles)

    def _fixed_obstacles(self) -> list[Obstacle]:
        fixed = [Obstacle(0, 0, self.page.width, self.top + 4)] if self.top else []
        if self.backdrop.clear:
            fixed.append(Obstacle(*self.backdrop.clear))
        return fixed

    def _stands(self, noun: Noun) -> bool:
        """Whether a noun needs room beside the subject rather than behind, above or at its feet."""
        return not self._floats(noun.entry) and noun.entry.kind in ("animals", "people", "vehicles")

    def _count(self, noun: Noun) -> int:
        if noun.count is not None:
            return noun.count
        least = 3 if noun.entry.size < 4 and len(self.brief.wish.nouns) < 3 else 2
        return least + int(self.rng.random() * 2)

    def _place_main(self, entry: Entry, count: int, *, beside: bool) -> None:
        page = self.page
        floats = self._floats(entry)
        ceiling = self.top + self.inset + 30
        free = page.ground - ceiling
        share = {1: 0.62, 2: 0.68, 3: 0.74, 4: 0.78, 5: 0.8}[entry.size]
        height = min(free * share, 0.62 * page.width / _aspect(entry), SHORT_SIDE * 0.82)
        if floats:
            height *= 0.88
        if beside and count == 1:
            height = min(height * 0.86, 0.48 * page.width / _aspect(entry))
        if count > 1:
            height *= 0.74 if count == 2 else 0.62
        item = replace(_sized(entry, "main", height), mirrored=self._mirrors(entry))
        sway = (self.rng.random() - 0.5) * 0.12 * page.width
        side = 1 if self.rng.random() < 0.5 else -1
        off = 0.21 if count == 2 else 0.17 if beside and count == 1 else 0.0
        x = page.width / 2 + (side * off * page.width if off else sway)
        x = min(max(x, self.inset + item.width / 2), page.width - self.inset - item.width / 2)
        base = ceiling + free * 0.46 + item.height / 2 if floats else page.ground
        if self.name == "sea" and not floats:
            base = page.ground + 30
        self.placed.append(replace(item, x=x, base=base, shadow=self._casts_shadow(entry)))
        for _ in range(min(count, 12) - 1):
            self._place_companion(item, entry, count, floats=floats)

    def _place_cast(self) -> None:
        """All figures of the cast side by side, each as large as there is room for."""
        page, cast = self.page, self.brief.cast
        ceiling = self.top + self.inset + 30
        room = (page.width - 2 * self.inset) / len(cast)
        for number, entry in enumerate(cast):
            height = min((page.ground - ceiling) * (0.5 + 0.05 * entry.size), room * 0.92 / _aspect(entry))
            floats = self._floats(entry)
            x = self.inset + room * (number + 0.5)
            base = ceiling + (page.ground - ceiling) * 0.46 + height / 2 if floats else page.ground
            item = _sized(entry, "main", height)
            self.placed.append(replace(item, x=x, base=base, shadow=self._casts_shadow(entry)))

    def _place_companion(self, main: Placement, entry: Entry, count: int, *, floats: bool) -> None:
        """Another of the same, somewhat smaller, beside or behind the first."""
        page = self.page
        share = 0.95 if count == 2 else 0.84 if count < 5 else 0.6
        item = replace(_sized(entry, "group", main.height * share), mirrored=not main.mirrored, shadow=main.shadow)
        # A crowd stands behind the first one, so as not to hide it.
        low = page.ground + (page.height - page.ground) * (0.3 if count < 5 else -0.05)
        zone = Zone(self.inset, page.width - self.inset, page.depth(0.2), low)
        if floats:
            zone = replace(zone, top=self.top + self.inset + item.height, bottom=page.ground)
        found = place(item, zone, boxes(self.placed) + self._fixed_obstacles(), self.rng, wanted=True)
        if found:
            self.placed.append(found)

    # The others

    def _floats(self, entry: Entry) -> bool:
        if entry.place in ("air", "sky"):
            return True
        if self.name == "house" and entry.drawing in self.setting.above:
            return True
        return self.name == "underwater" and entry.place == "under"

    def _casts_shadow(self, entry: Entry) -> bool:
        return not self._floats(entry) and self.name not in ("sea", "underwater")

    def _mirrors(self, entry: Entry) -> bool:
        return entry.kind in ("animals", "people", "vehicles", "plants", "food") and self.rng.random() < 0.5

    def _add(self, entry: Entry, obstacles: list[Obstacle], *, wanted: bool) -> None:
        """Find room for one more drawing. What the prompt names is larger and always finds some."""
        page = self.page
        left, right = self.inset, page.width - self.inset
        role = "wanted" if wanted else "extra"
        low = page.height - self.inset - 6
        if self._floats(entry):
            height = _SKY_HEIGHTS[entry.size] * (1.15 if wanted else 1.0) * (0.9 + 0.2 * self.rng.random())
            lowest = page.depth(0.45)
            if self.name not in ("underwater", "space", "sky"):
                share = 0.45 if self.name == "city" else 0.62 if entry.place == "sky" else 0.78
                lowest = self.top + (page.horizon - self.top) * share
            zone = Zone(left, right, self.top + self.inset + height, max(lowest, self.top + self.inset + height))
        else:
            growth = (1.3 if entry.is_character else 1.12) if wanted else 1.0
            height = _HEIGHTS[entry.size] * growth * (0.9 + 0.2 * self.rng.random())
            if entry.place == "water" and self.name in ("beach", "sea"):
                zone = Zone(left, right, page.depth(0.1), page.depth(0.2 if self.name == "beach" else 0.45))
            elif wanted and entry.is_character and entry.size > 2:
                zone = Zone(left, right, page.depth(0.3), page.depth(0.72))
            elif entry.size >= 4 or entry.drawing in self.setting.back:
                role = role if wanted else "back"
                zone = Zone(left, right, page.depth(0.12), page.depth(0.34))
            elif entry.size == 3:
                zone = Zone(left, right, page.depth(0.3), page.depth(0.7))
            else:
                zone = Zone(left, right, page.depth(0.5), low)
        room = page.height - self.top
        height = min(height, room * 0.4, (right - left) * 0.42 / _aspect(entry))
        main = next((placed for placed in self.placed if placed.role == "main"), None)
        if main and not self._floats(entry):
            height = min(height, math.sqrt(_LARGEST_OTHER * main.width * main.height / _aspect(entry)))
        item = replace(_sized(entry, role, height), mirrored=self._mirrors(entry), shadow=self._casts_shadow(entry))
        around = boxes(self.placed, behind=role == "back")
        found = place(item, zone, around + obstacles, self.rng, wanted=wanted)
        if found and found.top >= self.inset - 8:
            self.placed.append(found)

    def _place_extras(self, main: Entry, obstacles: list[Obstacle]) -> None:
        area = self.page.width * self.page.height / SHORT_SIDE**2
        room = round((11 - 0.5 * len(self.placed)) * min(area, 1.7) ** 0.8 * self.brief.richness)
        if self.top:
            room = round(room * 0.7)
        named = {clothes.without(drawing) for drawing in (main.drawing, *(item.drawing for item in self.placed))}
        enough = len(self.placed) + max(room, 2)
        for drawing in _interleaved(self.setting):
            if len(self.placed) >= enough:
                return
            if self.at_night:
                drawing = _BY_NIGHT.get(drawing, drawing)
            entry = by_drawing()[drawing]
            if drawing in named or not self.brief.wish.allows(entry):
                continue
            if self.brief.type == "background" and entry.is_character and entry.size > 2:
                continue
            self._add(entry, obstacles, wanted=False)


def repainted(backdrop: Backdrop, palette: Backdrop) -> Backdrop:
    """The backdrop in the colors of another, each color in its place from the back to the front."""
    ours, theirs = (
        list(dict.fromkeys(shape.fill for shape in (*one.back, *one.front) if shape.fill))
        for one in (backdrop, palette)
    )
    colors = {color: theirs[place % len(theirs)] for place, color in enumerate(ours)} if theirs else {}

    def paint(shapes: tuple[Shape, ...]) -> tuple[Shape, ...]:
        return tuple(
            replace(shape, fill=colors[shape.fill], line="") if shape.fill in colors else shape for shape in shapes
        )

    return replace(backdrop, sky=palette.sky, back=paint(backdrop.back), front=paint(backdrop.front))


def _interleaved(setting: Setting) -> Iterator[str]:
    """The extras of a setting, one of each sort in turn."""
    sorts = [sort for sort in (setting.back, setting.above, setting.front, setting.floating) if sort]
    for turn in range(max(map(len, sorts), default=0)):
        yield from (sort[turn] for sort in sorts if turn < len(sort))


def _aspect(entry: Entry) -> float:
    box = drawings.load(entry.drawing).box
    return box.width / box.height


def _sized(entry: Entry, role: str, height: float) -> Placement:
    """A placement as high as told; a long drawing counts as if it were higher than it is."""
    aspect = _aspect(entry)
    if aspect > 1.25 and role != "main":
        height = height * (1.25 / aspect) ** 0.5
    return Placement(entry.drawing, role, entry.place, 0.0, 0.0, height * aspect, height)
