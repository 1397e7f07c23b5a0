"""From a scene to pixels: SVG markup, rasterized by resvg, finished by Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from workers.providers.clipart import drawings
from workers.providers.clipart.geometry import Placement, Scene, Shape

if TYPE_CHECKING:
    from PIL.Image import Image

# resvg keeps the interpreter's lock while it works, so a page is drawn in bands, between which others get a turn.
_BAND_PIXELS = 600_000
_CORNER = 26


def _carry_on() -> None:
    """The checkpoint that does nothing, for work that cannot be cancelled."""


def render(scene: Scene, width: int, height: int, checkpoint: Callable[[], None] = _carry_on) -> Image:
    """Render the scene as an image of ``width`` by ``height`` pixels: grays for line art, else RGB.

    ``checkpoint`` is called now and then; what it raises ends the work.
    """
    from PIL import Image
    from resvg_py import svg_to_bytes

    body, page = markup(scene), scene.page
    mode = "RGB" if scene.colored else "L"
    image = Image.new(mode, (width, height), "white")
    rows = max(64, min(height, _BAND_PIXELS // width))
    x_scale, y_scale = width / page.width, height / page.height
    for top in range(0, height, rows):
        checkpoint()
        band = min(rows, height - top)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{band}">'
            f'<g transform="translate(0,{-top}) scale({x_scale:.8f},{y_scale:.8f})">{body}</g></svg>'
        )
        data = svg_to_bytes(svg_string=svg, background="#ffffff", skip_system_fonts=True)
        with Image.open(io.BytesIO(data)) as part:
            image.paste(part.convert(mode), (0, top))
    return image


def markup(scene: Scene) -> str:
    """The scene's SVG elements, in page units."""
    return "".join(_parts(scene))


def _parts(scene: Scene) -> Iterator[str]:
    page = scene.page
    if scene.colored:
        top, bottom = scene.backdrop.sky
        yield (
            f'<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1"><stop offset="0" stop-color="{top}"/>'
            f'<stop offset="1" stop-color="{bottom}"/></linearGradient></defs>'
            f'<rect width="{page.width:.2f}" height="{page.height:.2f}" fill="url(#sky)"/>'
        )
    yield '<g stroke-linejoin="round" stroke-linecap="round">'
    yield from (_shape(shape, scene) for shape in scene.backdrop.back)
    yield "</g>"
    yield from (_placement(item, scene) for item in scene.placements)
    yield '<g stroke-linejoin="round" stroke-linecap="round">'
    yield from (_shape(shape, scene) for shape in scene.backdrop.front)
    yield "</g>"
    if scene.panel:
        yield from _panel(scene.panel, scene.line_width)
    if scene.framed:
        yield _frame(scene)


def _frame(scene: Scene) -> str:
    """The page's rounded frame, with white outside it: far faster for resvg than clipping what is inside."""
    page, inset, corner = scene.page, scene.margin, _CORNER
    right, bottom = page.width - inset, page.height - inset
    arc = f"a{corner},{corner} 0 0 1"
    inner = (
        f"M{inset + corner},{inset}H{right - corner:.2f}{arc} {corner},{corner}V{bottom - corner:.2f}"
        f"{arc} {-corner},{corner}H{inset + corner}{arc} {-corner},{-corner}V{inset + corner}{arc} {corner},{-corner}z"
    )
    outer = f"M-100,-100H{page.width + 100:.2f}V{page.height + 100:.2f}H-100z"
    return (
        f'<path d="{outer}{inner}" fill="#fff" fill-rule="evenodd"/>'
        f'<path d="{inner}" fill="none" stroke="#000" stroke-width="{scene.line_width:.2f}"/>'
    )


def _panel(box: tuple[float, float, float, float], line_width: float) -> Iterator[str]:
    """The plate of a cover's title, with a fine second line inside its edge."""
    x, y, width, height = box
    yield (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" rx="38" fill="#FFFDF5" '
        f'stroke="#2F4858" stroke-width="{line_width * 1.3:.2f}"/>'
        f'<rect x="{x + 16:.2f}" y="{y + 16:.2f}" width="{width - 32:.2f}" height="{height - 32:.2f}" rx="26" '
        f'fill="none" stroke="#F4AA41" stroke-width="{line_width * 0.6:.2f}"/>'
    )


def _shape(shape: Shape, scene: Scene) -> str:
    if not scene.colored:
        if shape.color_only:
            return ""
        fill = "#fff" if shape.fill else "none"
        width = scene.line_width * max(shape.weight, 0.6) * 0.8
        return f'<path d="{shape.d}" fill="{fill}" stroke="#000" stroke-width="{width:.2f}"/>'
    if not shape.weight:
        return f'<path d="{shape.d}" fill="{shape.fill}" fill-opacity="0.5"/>'
    line = shape.line or _darker(shape.fill)
    width = scene.line_width * shape.weight * 0.62
    return f'<path d="{shape.d}" fill="{shape.fill or "none"}" stroke="{line}" stroke-width="{width:.2f}"/>'


def _darker(color: str) -> str:
    """A color for the outline of ``color``: the same, deeper."""
    red, green, blue = (round(value * 0.78) for value in bytes.fromhex(color.lstrip("#")))
    return f"#{red:02x}{green:02x}{blue:02x}"


def _placement(item: Placement, scene: Scene) -> str:
    drawing = drawings.load(item.drawing)
    box = drawing.box
    scale = item.height / box.height
    # Lines keep about the same width on the page whatever the drawing's scale, a little finer on small drawings.
    width = scene.line_width * min(1.2, max(0.7, (scale / 5.0) ** 0.3))
    body = drawing.markup(
        line_width=width / scale, halo=0 if scene.colored else scene.line_width * 0.55 / scale, colored=scene.colored
    )
    flip = -1 if item.mirrored else 1
    shadow = ""
    if scene.colored and item.shadow:
        reach = min(item.width, item.height * 0.8) * 0.46
        shadow = (
            f'<ellipse cx="{item.x:.2f}" cy="{item.base - 2:.2f}" rx="{reach:.2f}" '
            f'ry="{max(6.0, reach * 0.12):.2f}" fill="#1d3b1a" fill-opacity="0.16"/>'
        )
    middle = (box.left + box.right) / 2
    return (
        f'{shadow}<g transform="translate({item.x:.2f},{item.base:.2f}) scale({flip * scale:.5f},{scale:.5f}) '
        f'translate({-middle:.3f},{-box.bottom:.3f})">{body}</g>'
    )
