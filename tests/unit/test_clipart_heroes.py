"""The same figure on each page: clip art with references to its own drawings."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from PIL import Image

from config.local.contact_sheet import contact_sheet
from workers.providers.base import ImageAnswer, ImageRequest, ProviderError, ReferenceImage
from workers.providers.clipart import ClipartProvider, drawings, heroes, scene, words
from workers.providers.clipart.geometry import Placement, Scene

PIP = "Pip the red fox with a green scarf"
FIGURE = "1F98A+body+scarf.5C9E31"
PAGES = ["Pip flies a kite", "Pip and an owl at night", "Pip bakes bread", "Pip sleeps under a tree"]
#: What else a page has to show, by the drawing of its noun, and whether its scene is the new one.
NAMED = {"Pip flies a kite": "1FA81", "Pip and an owl at night": "1F989", "Pip bakes bread": "1F35E",
         "Pip sleeps under a tree": "own-tree"}  # fmt: skip
TYPES = ["illustration", "coloring-page", "cover"]


def reference(subject: str, role: str = "character", *, name: str = "", seed: int | None = 5) -> ReferenceImage:
    facts: dict[str, Any] = {"content_type": "image/png", "width": 64, "height": 64, "sha256": "0" * 64}
    return ReferenceImage(data=b"", role=role, name=name, subject=subject, seed=seed, **facts)


def request(subject: str, *references: ReferenceImage, type_: str = "illustration", **more: Any) -> ImageRequest:
    facts: dict[str, Any] = {"request_id": "r", "prompt": subject, "width": 320, "height": 320, "seed": 1}
    return ImageRequest(type=type_, subject=subject, references=references, **facts | more)


def draw(*arguments: Any, **more: Any) -> ImageAnswer:
    return asyncio.run(ClipartProvider().generate(request(*arguments, **more)))


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    """The scenes that are drawn."""
    scenes: list[Scene] = []
    compose = scene.compose

    def noted(brief: scene.Brief) -> Scene:
        scenes.append(compose(brief))
        return scenes[-1]

    monkeypatch.setattr(scene, "compose", noted)
    return scenes


def mains(found: Scene) -> list[Placement]:
    return [item for item in found.placements if item.role == "main"]


def drawn(found: Scene) -> set[str]:
    return {item.drawing for item in found.placements}


@pytest.mark.parametrize("type_", TYPES)
def test_each_page_shows_the_figure_of_the_sheet(composed: list[Scene], type_: str) -> None:
    draw(PIP, type_="character-reference")
    assert {item.drawing for item in composed[0].placements} == {FIGURE}
    for page in PAGES:
        draw(page, reference(PIP), type_=type_)
        [figure] = mains(composed[-1])
        assert figure.drawing == FIGURE
        others = [item for item in composed[-1].placements if item.place == "ground" and item is not figure]
        assert all(item.width * item.height <= figure.width * figure.height for item in others)
        assert NAMED[page] in drawn(composed[-1])
        assert "1F98A+body" not in drawn(composed[-1]), "it is there once"


def test_the_figure_has_the_same_colors_on_each_page() -> None:
    markup = drawings.load(FIGURE).markup(line_width=2, halo=0, colored=True)
    assert "#5C9E31" in markup
    assert "#E27022" in markup
    for page in PAGES:
        with Image.open(io.BytesIO(draw(page, reference(PIP)).data)) as image:
            colors = image.convert("RGB").getcolors(320 * 320)
        assert colors is not None
        counts = {color: count for count, color in colors}
        assert counts[0x5C, 0x9E, 0x31] > 100, page
        assert counts[0xE2, 0x70, 0x22] > 4_000, page


def test_the_scarf_is_drawn_in_line_art_too() -> None:
    plain = drawings.load("1F98A+body").markup(line_width=2, halo=0, colored=False)
    dressed = drawings.load(FIGURE).markup(line_width=2, halo=0, colored=False)
    assert len(dressed) > len(plain)
    assert "#5C9E31" not in dressed


def test_a_page_has_the_scene_of_its_own_prompt(composed: list[Scene]) -> None:
    for page in PAGES:
        draw(page, reference(PIP))
    skies = [found.backdrop.sky for found in composed]
    assert len(set(skies)) == 4, "a meadow, the night, a house, a forest"


def test_all_characters_are_on_the_page(composed: list[Scene]) -> None:
    cast = [PIP, "Rose the rabbit", "Ada, a girl with a yellow bow", "Bo, a robot wearing a purple scarf"]
    draw("They all fly to the moon in a rocket", *map(reference, cast), width=600)
    figures = [item.drawing for item in mains(composed[0])]
    assert sorted(figures) == sorted([FIGURE, "1F407", "1F467+dress+bow.FCEA2B", "1F916+body+scarf.B399C8"])
    edges = sorted((item.left, item.right) for item in mains(composed[0]))
    assert all(left >= right for (_, right), (left, _) in pairwise(edges))


def test_the_same_character_twice_is_drawn_once(composed: list[Scene]) -> None:
    draw(PAGES[0], reference(PIP), reference(PIP, seed=9))
    assert len(mains(composed[0])) == 1


@pytest.mark.parametrize(
    ("subject", "name", "page", "unwanted"),
    [
        (PIP, "", "Pip flies a kite", "1FAB0"),
        ("Rose the rabbit", "", "Rose eats a carrot", "1F339"),
        ("a rabbit called Rose", "", "Rose's day", "1F339"),
        ("a small rabbit", "Star", "Star eats a carrot", "2B50"),
        (PIP, "", "Pip loses the scarf", "1F9E3"),
        (PIP, "", "The fox eats bread", "1F98A+body"),
    ],
)
def test_what_stands_for_the_figure_is_not_drawn_again(
    composed: list[Scene], subject: str, name: str, page: str, unwanted: str
) -> None:
    draw(page, reference(subject, name=name))
    assert unwanted not in drawn(composed[0])


def test_a_prompt_without_nouns_shows_the_figure_at_home(composed: list[Scene]) -> None:
    assert draw("What a day that was", reference(PIP)).attribution
    assert [item.drawing for item in mains(composed[0])] == [FIGURE]


def test_a_style_gives_its_colors_and_no_figure(composed: list[Scene]) -> None:
    style = "A camel in the desert at night"
    draw(style, seed=7)
    draw(PAGES[0], reference(PIP), reference(style, "style", seed=7))
    original, styled = composed[0], composed[-1]
    assert styled.backdrop.sky == original.backdrop.sky
    assert {shape.fill for shape in styled.backdrop.back} <= {shape.fill for shape in original.backdrop.back} | {""}
    assert "1F42A" not in drawn(styled)
    assert draw(PAGES[0], reference("inner peace", "style")).data != draw(PAGES[0]).data, "a mandala has colors as well"


@pytest.mark.parametrize(
    ("references", "more"),
    [
        ([reference("")], {}),
        ([reference(PIP, seed=None)], {}),
        ([reference(PIP, "source")], {}),
        ([reference(PIP, "composition")], {}),
        ([reference(PIP), reference("", "style")], {}),
        ([reference("inner peace")], {}),
        ([reference(PIP)], {"mask": b"png"}),
        ([reference(PIP)], {"type_": "background"}),
    ],
)
def test_other_images_are_refused_before_drawing(
    composed: list[Scene], references: Sequence[ReferenceImage], more: dict[str, Any]
) -> None:
    with pytest.raises(ProviderError) as refused:
        draw(PAGES[0], *references, **more)
    assert (refused.value.code, refused.value.sent) == ("invalid_request", False)
    assert not composed


@pytest.mark.parametrize(
    ("prompt", "drawing"),
    [
        ("a fox in a dark red scarf", "1F98A+body+scarf.EA5A47"),
        ("a fox with a scarf", "1F98A+body+scarf.EA5A47"),
        ("an orange lion with a pink bow tie", "1F981+body+bow.FFA7C0"),
        ("a fox who knits scarves", "1F98A+body"),
        ("a cat with a green scarf", "1F408"),
        ("a fox without a scarf", "1F98A+body"),
    ],
)
def test_a_subject_wears_the_clothes_that_fit_it(prompt: str, drawing: str) -> None:
    main = heroes.dressed(words.read(prompt)).main
    assert main is not None
    assert main.entry.drawing == drawing


def test_a_contact_sheet_shows_images_of_any_shape() -> None:
    data = draw(PIP, width=600).data
    with Image.open(io.BytesIO(contact_sheet([("wide", data), ("x" * 500, data), ("", data)], columns=2))) as sheet:
        assert sheet.size == (2 * 504 + 24, 2 * 538 + 24)
