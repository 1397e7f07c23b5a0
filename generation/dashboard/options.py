"""Options of the Studio's form and of the form of an API key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from generation.models import PromptStyle
from generation.models.options import RESTRICTING
from generation.providers import catalogue, sizes
from generation.states import Approval, GenerationType, Priority, Scope, Status, StyleScope


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A type of image with its description, default aspect ratio and an example prompt. A cover has a ``title``."""

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
        hint="Black outlines on white, for coloring in.",
        ratio="portrait",
        example="A friendly dragon playing in a garden",
    ),
    Kind(
        value=GenerationType.COVER,
        label="Cover",
        hint="The front cover of a book, with its title.",
        ratio="portrait",
        example="A brave knight and a dragon before a castle at sunset",
        title=True,
    ),
    Kind(
        value=GenerationType.ILLUSTRATION,
        label="Illustration",
        hint="A scene in full color.",
        ratio="square",
        example="A fox and an owl having a picnic in the forest",
    ),
    Kind(
        value=GenerationType.CHARACTER_REFERENCE,
        label="Character",
        hint="One character from several angles, for a consistent look on every page.",
        ratio="landscape",
        example="A small robot gardener with a watering can",
    ),
    Kind(
        value=GenerationType.BACKGROUND,
        label="Background",
        hint="A scene without characters, with room in the middle.",
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
RESOLUTIONS: Final = (("", "Standard · about 1 MP"), ("2K", "2K · about 4 MP"), ("4K", "4K · about 8 MP"))
#: Numbers of images of one prompt.
VARIATIONS: Final = (1, 2, 4)


def offered() -> dict[str, Any]:
    """Return the choices of the Studio's lists."""
    providers = [
        {
            "name": name,
            "models": [
                {
                    "name": model.name,
                    "supported": _supported(model.capabilities),
                    "resolutions": sizes.resolutions(model),
                }
                for model in models
            ],
        }
        for name, models in catalogue.offered_models().items()
    ]
    styles = PromptStyle.objects.filter(scope=StyleScope.IMAGE_STYLE).values_list("name", flat=True)
    return {
        "kinds": [asdict(kind) for kind in KINDS],
        "providers": providers,
        "styles": list(styles),
        "ratios": RATIOS,
        "resolutions": RESOLUTIONS,
        "priorities": Priority.choices,
        "statuses": Status.choices,
        "types": GenerationType.choices,
        "approvals": Approval.choices,
        "variations": VARIATIONS,
    }


def of_keys() -> dict[str, Any]:
    """Return the choices of an API key's form."""
    names = {model.name for models in catalogue.offered_models().values() for model in models}
    return {"scopes": Scope.choices, "priorities": Priority.choices, "models": sorted(names)}


def _supported(capabilities: Iterable[str]) -> list[str]:
    """Return the options that the model supports. The API validates the values of an option."""
    names = {capability.partition(":")[0] for capability in capabilities}
    return [option for option in RESTRICTING if option in names]
