import pytest

from workers.providers.clipart.geometry import Placement, Scene
from workers.providers.clipart.packing import Obstacle, overlap
from workers.providers.clipart.scene import Brief, compose, setting_for
from workers.providers.clipart.words import read

PROMPTS = [
    "A friendly dragon playing in a garden",
    "three cats and a dog in a house",
    "an octopus, fish and crabs under the sea",
    "a rocket and many stars in space",
    "a dozen sheep on a farm with a tractor, a barn and a dog",
    "a knight and a dragon near a castle",
    "a beach",
]
SIZES = [(512, 512), (400, 900), (900, 400), (256, 2048)]
TYPES = ["coloring-page", "illustration", "background", "cover", "character-reference"]


def _compose(
    prompt: str, type_: str = "coloring-page", size: tuple[int, int] = (512, 512), seed: int = 1, style: str = ""
) -> Scene:
    return compose(Brief(read(prompt), type_, *size, seed, style))


def _mains(scene: Scene) -> list[Placement]:
    return [item for item in scene.placements if item.role == "main"]


def _hidden(scene: Scene) -> float:
    """The part of the main subject's box that what is painted after it takes away."""
    (main,) = _mains(scene)
    later = scene.placements[scene.placements.index(main) + 1 :]
    boxes = [Obstacle(item.left, item.top, item.right, item.base) for item in later]
    return sum(overlap(main, box) for box in boxes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_nothing_leaves_the_page(prompt, type_, size):
    scene = _compose(prompt, type_, size)
    for item in scene.placements:
        assert item.left >= scene.margin, item
        assert item.right <= scene.page.width - scene.margin, item
        assert item.top >= scene.margin, item
        assert item.base <= scene.page.height - scene.margin, item


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_main_subject_is_the_largest(prompt, seed):
    scene = _compose(prompt, seed=seed)
    (main,) = _mains(scene)
    for item in scene.placements:
        if item is not main and item.place not in ("sky", "air"):
            assert item.width * item.height <= main.width * main.height * 1.05, item


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_main_subject_is_hardly_covered(prompt, seed):
    assert _hidden(_compose(prompt, seed=seed)) < 0.25


@pytest.mark.parametrize(
    "prompt", ["a dog in a garden", "a cow on a farm", "a bear in winter", "a camel in the desert"]
)
def test_objects_of_the_sky_are_above_the_horizon(prompt):
    for seed in range(5):
        scene = _compose(prompt, seed=seed)
        high = [item for item in scene.placements if item.place == "sky"]
        assert high
        assert all(item.base < scene.page.horizon for item in high)


@pytest.mark.parametrize("prompt", ["a dog in a garden", "a cow on a farm", "a car in the city", "a cat in a house"])
def test_standing_objects_are_on_the_ground(prompt):
    for seed in range(5):
        scene = _compose(prompt, seed=seed)
        standing = [item for item in scene.placements if item.place == "ground" and item.drawing != "1F5BC"]
        assert all(item.base > scene.page.horizon for item in standing)


@pytest.mark.parametrize(("prompt", "count"), [("three cats", 3), ("two cats", 2), ("a cat", 1), ("seven cats", 7)])
def test_three_cats_draw_three_cats(prompt, count):
    for seed in range(4):
        assert sum(item.drawing == "1F408" for item in _compose(prompt, seed=seed).placements) == count


def test_a_plural_without_a_number_draws_several() -> None:
    counts = {sum(item.drawing == "1F408" for item in _compose("cats", seed=seed).placements) for seed in range(8)}
    assert counts <= {2, 3, 4, 5}
    assert len(counts) > 1


def test_every_noun_of_the_prompt_is_drawn() -> None:
    drawn = {item.drawing for item in _compose("a girl, a dog, a ball, a tree and a kite").placements}
    assert {"1F467+dress", "1F415", "26BD", "own-tree", "1FA81"} <= drawn


def test_unwanted_things_are_no_extras_either() -> None:
    for seed in range(5):
        drawn = {item.drawing for item in _compose("a dog in a garden, no sun, no tree", seed=seed).placements}
        assert not drawn & {"2600", "own-tree"}


@pytest.mark.parametrize(
    ("prompt", "setting"),
    [
        ("a fish", "underwater"),
        ("a rocket", "space"),
        ("a cow", "farm"),
        ("a dog", "meadow"),
        ("a penguin", "snow"),
        ("a whale in the sea", "underwater"),
        ("a whale and a sailboat in the sea", "sea"),
        ("a dog by the sea", "beach"),
    ],
)
def test_a_subject_without_a_setting_is_at_home(prompt, setting):
    assert setting_for(read(prompt)) == setting


def test_a_background_leaves_its_middle_free_and_has_no_subject() -> None:
    scene = _compose("a dragon in a garden", "background")
    assert not _mains(scene)
    assert all(item.drawing != "own-dragon" for item in scene.placements)
    middle = scene.page.width / 2
    low = [item for item in scene.placements if item.base > scene.page.horizon]
    assert low
    assert all(item.right < middle or item.left > middle for item in low)


def test_a_character_reference_shows_only_the_subject_in_three_sizes() -> None:
    items = _compose("a fox in the forest with a tree", "character-reference").placements
    assert {item.drawing for item in items} == {"1F98A+body"}
    assert len({round(item.height) for item in items}) == 3
    assert len({item.base for item in items}) == 1


def test_a_cover_keeps_its_top_third_for_the_title() -> None:
    scene = _compose("a knight near a castle", "cover", (600, 900))
    assert scene.panel is not None
    assert scene.panel[1] + scene.panel[3] <= scene.page.height / 3
    assert all(item.top > scene.panel[1] + scene.panel[3] for item in scene.placements)


def test_another_seed_gives_another_composition() -> None:
    assert len({_compose(PROMPTS[0], seed=seed).placements for seed in range(6)}) == 6


def test_a_simple_style_has_fewer_things_and_thicker_lines() -> None:
    simple, detailed = _compose(PROMPTS[0], style="Simple, toddler"), _compose(PROMPTS[0], style="highly detailed")
    assert len(simple.placements) < len(detailed.placements)
    assert simple.line_width > detailed.line_width


def test_at_night_the_moon_takes_the_place_of_the_sun() -> None:
    drawn = {item.drawing for item in _compose("an owl in the forest at night").placements}
    assert "1F319" in drawn
    assert "2600" not in drawn
