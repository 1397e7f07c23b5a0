"""What can be chosen when a picture is submitted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from generation.models import PromptStyle
from generation.models.options import RESTRICTING
from generation.providers import catalogue
from generation.states import GenerationType, Priority, Status, StyleScope


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One type of picture: what it is for, the shape that it usually has, and an example. A cover has a ``title``."""

    value: str
    label: str
    hint: str
    ratio: str
    example: str
    title: bool = False


KINDS: Final = (
    Kind(
        value=GenerationType.COLORING_PAGE,
        label="Coloring page",
        hint="Black lines on white, to be coloured in.",
        ratio="portrait",
        example="A friendly dragon playing in a garden",
    ),
    Kind(
        value=GenerationType.COVER,
        label="Cover",
        hint="The front of a book, with its title.",
        ratio="portrait",
        example="A brave knight and a dragon before a castle at sunset",
        title=True,
    ),
    Kind(
        value=GenerationType.ILLUSTRATION,
        label="Illustration",
        hint="A scene in full colour.",
        ratio="square",
        example="A fox and an owl having a picnic in the forest",
    ),
    Kind(
        value=GenerationType.CHARACTER_REFERENCE,
        label="Character",
        hint="One figure from several sides, to keep it the same on every page.",
        ratio="landscape",
        example="A small robot gardener with a watering can",
    ),
    Kind(
        value=GenerationType.BACKGROUND,
        label="Background",
        hint="A setting without figures, with room in the middle.",
        ratio="landscape",
        example="A quiet beach with palm trees and a lighthouse",
    ),
)
RATIOS: Final = (
    ("square", "Square · 1:1"),
    ("portrait", "Portrait · 2:3"),
    ("landscape", "Landscape · 3:2"),
    ("3:4", "Page · 3:4"),
    ("4:3", "Screen · 4:3"),
    ("16:9", "Wide · 16:9"),
)


def offered() -> dict[str, Any]:
    """For the page of the Studio: what its lists have."""
    providers = [
        {"name": name, "models": [{"name": model, "honours": _honoured(known)} for model, known in models]}
        for name, models in catalogue.offered_models().items()
    ]
    styles = PromptStyle.objects.filter(scope=StyleScope.IMAGE_STYLE).values_list("name", flat=True)
    return {
        "kinds": [asdict(kind) for kind in KINDS],
        "providers": providers,
        "styles": list(styles),
        "ratios": RATIOS,
        "priorities": Priority.choices,
        "statuses": Status.choices,
        "types": GenerationType.choices,
    }


def _honoured(capabilities: frozenset[str]) -> list[str]:
    """The options that the model takes at all; of some it takes certain values only, which the API tells."""
    names = {capability.partition(":")[0] for capability in capabilities}
    return [option for option in RESTRICTING if option in names]
