"""What each setting looks like behind its objects: our own shapes, drawn for any page."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from workers.providers.clipart.geometry import (
    Backdrop,
    Page,
    Shape,
    band,
    cloud,
    ellipse,
    grass,
    hills,
    path,
    rectangle,
    smooth,
    sparkle,
    treetops,
    waves,
)

_DAY = ("#BFE6FA", "#F2FBFF")
_FAR, _MIDDLE, _NEAR = "#CFE8B5", "#B5DA92", "#A3D078"


def _tufts(page: Page, rng: Random, count: int, color: str = "#6FA94B") -> tuple[Shape, ...]:
    """Blades of grass spread over the ground, off its middle where the main subject stands."""
    shapes = []
    for index in range(count):
        x = page.x((index + 0.2 + 0.6 * rng.random()) / count)
        y = page.depth(0.18 + 0.72 * ((index * 0.618) % 1))
        shapes.append(Shape(grass(x, y, 20 + 10 * rng.random()), weight=0.7, line=color))
    return tuple(shapes)


def _meadow(page: Page, rng: Random) -> Backdrop:
    back = (
        Shape(hills(page, page.horizon - 10, 110, 2, rng), _FAR),
        Shape(hills(page, page.horizon + 10, 55, 3, rng), _MIDDLE),
        Shape(hills(page, page.depth(0.28), 35, 2, rng), _NEAR),
        *_tufts(page, rng, 8),
    )
    return Backdrop(_DAY, back)


def _fence(page: Page, foot: float, height: float) -> tuple[Shape, ...]:
    count = max(8, round(page.width / 85))
    step = page.width / count
    wood = "#FFF6E3"
    rails = tuple(
        Shape(rectangle(-40, foot - height * at, page.width + 80, height * 0.12), wood) for at in (0.72, 0.34)
    )
    width = step * 0.52
    pickets = tuple(
        Shape(path([(x, foot), (x, foot - height), (x + width / 2, foot - height - width * 0.6),
                    (x + width, foot - height), (x + width, foot)]), wood)
        for x in (index * step + (step - width) / 2 for index in range(-1, count + 1))
    )  # fmt: skip
    return (*rails, *pickets)


def _garden(page: Page, rng: Random) -> Backdrop:
    back = (
        Shape(hills(page, page.horizon - 40, 90, 2, rng), _FAR),
        Shape(treetops(page, page.horizon - 20, 120, rng), _MIDDLE),
        *_fence(page, page.horizon + 26, 120),
        Shape(hills(page, page.horizon + 42, 26, 3, rng), _NEAR),
        *_tufts(page, rng, 8),
    )
    return Backdrop(_DAY, back)


def _farm(page: Page, rng: Random) -> Backdrop:
    furrows = tuple(
        Shape(
            smooth([(page.x(0.5 + 0.14 * k), page.horizon - 6), (page.x(0.5 + 0.34 * k), page.depth(0.3))]),
            weight=0.7,
            line="#C9A55C",
        )
        for k in range(-4, 5)
    )
    posts = tuple(Shape(rectangle(page.x(i / 7) - 9, page.depth(0.3) - 96, 18, 100), "#D9B382") for i in range(8))
    rails = tuple(Shape(rectangle(-40, page.depth(0.3) - at, page.width + 80, 15), "#D9B382") for at in (78, 42))
    back = (
        Shape(hills(page, page.horizon - 20, 100, 2, rng), _FAR),
        Shape(band(page, page.horizon), "#F3DFA2"),
        *furrows,
        *rails,
        *posts,
        Shape(hills(page, page.depth(0.32), 26, 3, rng), _NEAR),
        *_tufts(page, rng, 7),
    )
    return Backdrop(_DAY, back)


def _forest(page: Page, rng: Random) -> Backdrop:
    back = (
        Shape(treetops(page, page.horizon - 70, 170, rng), "#BFE0B0"),
        Shape(treetops(page, page.horizon - 10, 130, rng), "#9CCB85"),
        Shape(hills(page, page.horizon + 40, 35, 3, rng), "#86BC66"),
        Shape(_trail(page), "#E5D3A8"),
        *_tufts(page, rng, 9, "#4F8A3C"),
    )
    return Backdrop(("#D5EEDF", "#F5FBEF"), back)


def _trail(page: Page) -> str:
    """A winding path from the horizon to the lower edge, wider in the foreground."""
    top, bottom = page.horizon + 34, page.height + 60
    x, middle = page.x(0.62), (top + bottom) / 2
    return (
        f"M{x - 16:.1f},{top:.1f}C{x + 90:.1f},{middle - 40:.1f} {page.x(0.2):.1f},{middle:.1f} "
        f"{page.x(0.26):.1f},{bottom:.1f}H{page.x(0.7):.1f}"
        f"C{page.x(0.5):.1f},{middle + 30:.1f} {x + 160:.1f},{middle - 20:.1f} {x + 16:.1f},{top:.1f}z"
    )


def _jungle(page: Page, rng: Random) -> Backdrop:
    vines = []
    for index in range(5):
        x = page.x((index + 0.3 + 0.4 * rng.random()) / 5)
        drop = page.y(0.02 + 0.04 * rng.random())
        leaf = "q-26,10 -22,36q26,-8 22,-36z"
        vines.append(Shape(f"M{x:.1f},-60V{drop:.1f}", weight=0.9, line="#4F8A3C"))
        vines.append(Shape(f"M{x:.1f},{drop:.1f}{leaf}", "#7CB85C"))
        vines.append(Shape(f"M{x:.1f},{drop:.1f}q26,10 22,36q-26,-8 -22,-36z", "#7CB85C"))
    back = (
        Shape(treetops(page, page.horizon - 110, 210, rng), "#CDE7A8"),
        Shape(treetops(page, page.horizon - 20, 150, rng), "#A6D07E"),
        *vines,
        Shape(hills(page, page.horizon + 40, 40, 3, rng), "#8CC26A"),
        *_tufts(page, rng, 10, "#4F8A3C"),
    )
    return Backdrop(("#DDF3D8", "#FAFCE4"), back)


def _mountains(page: Page, rng: Random) -> Backdrop:
    shapes = []
    for index, (at, rise) in enumerate(((0.12, 0.62), (0.84, 0.7), (0.46, 0.82))):
        x, foot = page.x(at + 0.04 * (rng.random() - 0.5)), page.horizon + 40
        high, half = (page.horizon - page.y(0.1)) * rise, page.width * 0.34
        top = foot - high
        ridge = [(x - half, foot), (x - half * 0.45, foot - high * 0.5), (x, top), (x + half * 0.5, foot - high * 0.46),
                 (x + half, foot)]  # fmt: skip
        snow = [(x, top), (x + half * 0.24, top + high * 0.26), (x + half * 0.1, top + high * 0.2),
                (x, top + high * 0.34), (x - half * 0.12, top + high * 0.22),
                (x - half * 0.22, top + high * 0.245)]  # fmt: skip
        shapes += [Shape(path(ridge), ("#B9C7DC", "#C6D2E4", "#A9BAD3")[index]), Shape(path(snow), "#FFFFFF")]
    back = (
        *shapes,
        Shape(hills(page, page.horizon + 20, 60, 3, rng), _MIDDLE),
        Shape(hills(page, page.depth(0.3), 30, 2, rng), _NEAR),
        *_tufts(page, rng, 7),
    )
    return Backdrop(_DAY, back)


def _snow(page: Page, rng: Random) -> Backdrop:
    flakes = []
    for index in range(14):
        x, y = page.x((index + 0.5 * rng.random() + 0.2) / 14), page.y(0.05 + 0.44 * ((index * 0.618) % 1))
        flakes.append(Shape(ellipse(x, y, 8, 8), "#FFFFFF", 0.7, line="#A9CBE0"))
    back = (
        Shape(hills(page, page.horizon - 20, 130, 2, rng), "#E3F0F8"),
        *flakes,
        Shape(hills(page, page.horizon + 20, 60, 3, rng), "#F0F8FD"),
        Shape(hills(page, page.depth(0.34), 34, 2, rng), "#FFFFFF"),
    )
    return Backdrop(("#B5D9F0", "#E6F4FC"), back)


def _desert(page: Page, rng: Random) -> Backdrop:
    ripples = tuple(
        Shape(smooth([(x, y), (x + 40, y - 9), (x + 80, y), (x + 120, y - 7)]), weight=0.7, line="#D3A45C")
        for x, y in (
            (page.x((i + 0.5 * rng.random()) / 6), page.depth(0.3 + 0.62 * ((i * 0.618) % 1))) for i in range(6)
        )
    )
    back = (
        Shape(hills(page, page.horizon - 10, 120, 2, rng), "#FBE3B0"),
        Shape(hills(page, page.horizon + 20, 60, 2, rng), "#F7D692"),
        Shape(hills(page, page.depth(0.3), 40, 2, rng), "#F3CB7D"),
        *ripples,
    )
    return Backdrop(("#BFE6FA", "#FFF3DA"), back)


def _water(page: Page, top: float, bottom: float, rng: Random) -> tuple[Shape, ...]:
    blues = ("#A9DCF5", "#92D3F5", "#7CC4EC", "#6AB7E3", "#5BAADB")
    count = max(3, min(5, round((bottom - top) / 90)))
    return tuple(
        Shape(
            waves(page, top + (bottom - top) * (i / count) ** 1.15, 110 + 26 * i, 34 + 7 * i, phase=rng.random()),
            blues[i],
        )
        for i in range(count)
    )


def _beach(page: Page, rng: Random) -> Backdrop:
    shore = page.depth(0.34)
    back = (
        *_water(page, page.horizon, shore + 20, rng),
        Shape(hills(page, shore, 40, 1, rng), "#FDF6E3"),
        Shape(hills(page, shore + 34, 34, 1, rng), "#F7E0A8"),
        *(
            Shape(ellipse(page.x((i * 0.618) % 1), page.depth(0.5 + 0.045 * i), 4, 3), "#D3A45C", 0.5)
            for i in range(10)
        ),
    )
    return Backdrop(_DAY, back)


def _open_sea(page: Page, rng: Random) -> Backdrop:
    rows = _water(page, page.horizon, page.ground + 60, rng)
    front = Shape(waves(page, page.ground - 6, 170, 50, phase=rng.random()), "#5BAADB")
    lower = Shape(waves(page, page.ground + (page.height - page.ground) * 0.55, 190, 56, phase=rng.random()), "#4B9BCD")
    return Backdrop(_DAY, rows[:-1], (front, lower))


def _underwater(page: Page, rng: Random) -> Backdrop:
    bubbles = []
    for index in range(7):
        x, y = (
            page.x(0.07 + 0.86 * ((index * 0.618 + 0.2 * rng.random()) % 1)),
            page.y(0.2 + 0.5 * ((index * 0.37) % 1)),
        )
        for k, radius in enumerate((19, 12, 8)):
            cx, cy = x + (7, -9, 4)[k], y - 44 * k
            bubbles.append(Shape(ellipse(cx, cy, radius, radius), "#D9F3FD", 0.7, line="#6FB7DA"))
    rays = tuple(
        Shape(path([(page.x(at), -60), (page.x(at + 0.09), -60), (page.x(at - 0.02), page.horizon),
                    (page.x(at - 0.2), page.horizon)]), "#CDEFFC", 0, color_only=True)
        for at in (0.3, 0.62, 0.95)
    )  # fmt: skip
    back = (
        *rays,
        Shape(waves(page, page.y(0.075), 120, 36, filled=False), weight=0.9, line="#FFFFFF"),
        Shape(hills(page, page.horizon + 10, 90, 2, rng), "#8CCBE0"),
        *bubbles,
        Shape(hills(page, page.depth(0.42), 46, 2, rng), "#F3DDA6"),
        *(
            Shape(ellipse(page.x((i * 0.618 + 0.1) % 1), page.depth(0.66 + 0.03 * i), 5, 3.5), "#D3A45C", 0.5)
            for i in range(9)
        ),
    )
    return Backdrop(("#A5E0F7", "#63B9DF"), back)


def _space(page: Page, rng: Random) -> Backdrop:
    stars = []
    for index in range(22):
        x, y = (
            page.x(0.05 + 0.9 * ((index * 0.618 + 0.06 * rng.random()) % 1)),
            page.y(0.05 + 0.66 * ((index * 0.357) % 1)),
        )
        size = 11 + 12 * rng.random()
        stars.append(Shape(sparkle(x, y, size) if index % 3 else ellipse(x, y, 6, 6), "#FFF3B0", 0.6, line="#FFF3B0"))
    top = page.depth(0.46)
    moon = (
        f"M-60,{top + 90:.1f}Q{page.x(0.5):.1f},{top - 60:.1f} {page.width + 60:.1f},{top + 90:.1f}"
        f"V{page.height + 60:.1f}H-60z"
    )
    craters = tuple(
        Shape(ellipse(page.x(at), page.depth(deep), size, size * 0.36), "#BFC3D6", 0.8)
        for at, deep, size in ((0.12, 0.78, 46), (0.3, 0.93, 58), (0.62, 0.9, 40), (0.86, 0.8, 60), (0.5, 0.66, 30))
    )
    return Backdrop(("#2C2A5E", "#5A4C94"), (*stars, Shape(moon, "#D9DBE8"), *craters))


def _city(page: Page, rng: Random) -> Backdrop:
    towers = []
    x, index = -30.0, 0
    while x < page.width + 20:
        width = 100 + 60 * rng.random()
        high = (page.horizon - page.y(0.12)) * (0.34 + 0.5 * rng.random())
        color = ("#C9D3E8", "#DCD2E6", "#F1D9C6", "#CFE3DD")[index % 4]
        top = page.horizon + 30 - high
        towers.append(Shape(rectangle(x, top, width, high), color))
        columns = 2 if width < 130 else 3
        for row in range(int((high - 60) // 62)):
            for column in range(columns):
                left = x + width * (column + 0.5) / columns - 13
                towers.append(Shape(rectangle(left, top + 26 + row * 62, 26, 32), "#FFF7DA", 0.75))
        x, index = x + width, index + 1
    road = page.depth(0.5)
    dashes = tuple(
        Shape(rectangle(page.x(i / 5) + 20, (road + page.height) / 2 - 8, page.x(0.1), 16), "#FFFFFF", 0.8)
        for i in range(-1, 6)
    )
    back = (*towers, Shape(band(page, page.horizon + 30), "#E8E2D8"), Shape(band(page, road), "#A9ADB8"), *dashes)
    return Backdrop(_DAY, back)


def _indoors(page: Page, rng: Random) -> Backdrop:
    floor = page.horizon + 30
    w, h = min(300.0, page.x(0.28)), min(300.0, floor * 0.44)
    x, y = page.x(0.09 if rng.random() < 0.5 else 0.63), floor * 0.2
    curtain = (
        Shape(f"M{x - 34:.1f},{y - 20:.1f}h{w * 0.36:.1f}q0,{h * 0.7:.1f} {-w * 0.36:.1f},{h + 40:.1f}z", "#F6B8C4"),
        Shape(
            f"M{x + w + 34:.1f},{y - 20:.1f}h{-w * 0.36:.1f}q0,{h * 0.7:.1f} {w * 0.36:.1f},{h + 40:.1f}z", "#F6B8C4"
        ),
        Shape(rectangle(x - 56, y - 34, w + 112, 16), "#C99A63"),
    )
    window = (
        Shape(rectangle(x - 16, y - 16, w + 32, h + 32), "#FFFFFF"),
        Shape(rectangle(x, y, w, h), "#CDEBFA"),
        Shape(cloud(x + w * 0.2, y + h * 0.42, w * 0.42), "#FFFFFF", 0.7),
        Shape(f"M{x + w / 2:.1f},{y:.1f}v{h:.1f}M{x:.1f},{y + h / 2:.1f}h{w:.1f}", weight=1.2, line="#B9A58A"),
        *curtain,
    )
    boards = tuple(
        Shape(
            path([(page.x(0.5 + 0.12 * k), floor), (page.x(0.5 + 0.24 * k), page.height + 60)], closed=False),
            weight=0.6,
            line="#C99A63",
        )
        for k in range(-4, 5)
    )
    rug = (
        Shape(ellipse(page.x(0.5), page.depth(0.68), page.x(0.36), (page.height - floor) * 0.24), "#9FCBE8"),
        Shape(ellipse(page.x(0.5), page.depth(0.68), page.x(0.31), (page.height - floor) * 0.19), "#CBE5F5", 0.8),
    )
    skirting = Shape(rectangle(-60, floor - 22, page.width + 120, 22), "#FFFFFF")
    back = (*window, Shape(band(page, floor), "#E6C89C"), *boards, skirting, *rug)
    return Backdrop(("#FDF0D5", "#FBE6C2"), back, clear=(x - 60, y - 40, x + w + 60, y + h + 20))


def _sky(page: Page, rng: Random) -> Backdrop:
    clouds = tuple(
        Shape(cloud(page.x(at), page.y(high + 0.03 * rng.random()), size), "#FFFFFF", line="#9CC7E0")
        for at, high, size in ((0.08, 0.3, 210), (0.68, 0.24, 240), (0.1, 0.68, 190), (0.76, 0.62, 170))
    )
    floor = tuple(
        Shape(treetops(page, page.height - high, size, rng), color, line="#9CC7E0")
        for high, size, color in ((90, 210, "#E3F3FC"), (30, 170, "#FFFFFF"))
    )
    return Backdrop(("#8FD0F5", "#E6F6FF"), (*clouds, *floor))


def _plain(page: Page, rng: Random) -> Backdrop:
    ground = Shape(f"M{page.x(0.06):.1f},{page.ground:.1f}H{page.x(0.94):.1f}", weight=0.7, line="#B9B3A6")
    return Backdrop(("#FBF9F4", "#F4F0E6"), (ground,))


BACKDROPS: dict[str, Callable[[Page, Random], Backdrop]] = {
    "meadow": _meadow,
    "garden": _garden,
    "farm": _farm,
    "forest": _forest,
    "jungle": _jungle,
    "mountains": _mountains,
    "snow": _snow,
    "desert": _desert,
    "beach": _beach,
    "sea": _open_sea,
    "underwater": _underwater,
    "space": _space,
    "city": _city,
    "house": _indoors,
    "playground": _meadow,
    "sky": _sky,
    "plain": _plain,
}
