"""What a new installation starts with: the phrases of prompts, the vendors' models as of November 2026, and roles.

Prices are in US dollars, from the vendors' price lists. Estimates are for one image of about one megapixel.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib.auth.management import create_permissions

from generation.access import roles

STYLES = {
    "coloring-page": "coloring book style, black and white line art, clear outlines",
    "cover": "book cover design, professional, eye-catching",
    "illustration": "children's book illustration, warm colors, clear composition",
    "character-reference": "character reference sheet, the whole figure in several views, plain background",
    "background": "background scene without characters, calm composition with room in the middle",
}
IMAGE_STYLES = {
    "cartoon": "cartoon style, rounded shapes, friendly faces",
    "watercolor": "watercolor style, soft washes, visible paper",
    "realistic": "realistic style, natural proportions and light",
}

OPENAI_SIZES = {"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]}
#: Any size with sides that are multiples of 16, up to a ratio of 3:1.
OPENAI_ANY_SIZE = OPENAI_SIZES | {"any": {"short": 1024, "step": 16, "widest": 3}}
#: The vendor's limits: sides up to 3840 pixels, up to 8,294,400 pixels in all.
OPENAI_LARGER_SIZES = {
    "2K": {"any": {"pixels": 4_194_304, "longest": 3840, "step": 16, "widest": 3}},
    "4K": {"any": {"pixels": 8_294_400, "longest": 3840, "step": 16, "widest": 3}},
}
OPENAI_ANY_SIZE_MODELS = ["gpt-image-2", "gpt-image-2.5-sunburst", "gpt-image-2.5-flare"]
#: The vendor publishes no price for them. Their tokens grow with the pixels: those of 1 megapixel, times 4 and 8.
OPENAI_LARGER_ESTIMATES = {
    "2K": {"low": "0.024", "medium": "0.212", "high": "0.844"},
    "4K": {"low": "0.048", "medium": "0.424", "high": "1.688"},
}
OPENAI_TOKENS = {"input_text": "5", "input_image": "8", "output_image": "30"}
OPENAI_PRICE = {"per_million": OPENAI_TOKENS, "estimate": {"low": "0.006", "medium": "0.053", "high": "0.211"}}
ENDS_2026_12_01 = datetime.date(2026, 12, 1)

#: Name → preference, sizes, price, end. The first succeeds those that end.
OPENAI: dict[str, tuple[int, Any, Any, Any]] = {
    "gpt-image-2": (10, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    "gpt-image-2.5-sunburst": (20, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    "gpt-image-2.5-flare": (30, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    "gpt-image-2.6-sunburst": (40, OPENAI_SIZES, OPENAI_PRICE, None),
    "gpt-image-2.6-flare": (50, OPENAI_SIZES, OPENAI_PRICE, None),
    "gpt-image-1.5": (60, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "gpt-image-1-mini": (70, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "chatgpt-image-latest": (80, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "gpt-image-1": (90, OPENAI_SIZES, {}, datetime.date(2026, 10, 23)),
    "dall-e-3": (90, OPENAI_SIZES, {}, datetime.date(2026, 5, 12)),
    "dall-e-2": (90, OPENAI_SIZES, {}, datetime.date(2026, 5, 12)),
}
OPENAI_HONOURS = ["quality", "outputFormat"]

STABILITY_SIZES = {
    "1:1": [1024, 1024], "2:3": [832, 1216], "3:2": [1216, 832], "4:5": [896, 1088], "5:4": [1088, 896],
    "9:16": [768, 1344], "16:9": [1344, 768], "9:21": [640, 1536], "21:9": [1536, 640],
}  # fmt: skip
STABILITY_HONOURS = ["seed", "negativePrompt", "outputFormat"]
#: Name → preference, the qualities it stands for, price. The vendor has no option for quality, but models.
STABILITY: dict[str, tuple[int, list[str], str]] = {
    "core": (10, ["quality:low", "quality:medium"], "0.03"),
    "ultra": (20, ["quality:high"], "0.08"),
    "sd3.5-large": (30, ["quality:medium", "quality:high"], "0.065"),
    "sd3.5-large-turbo": (40, ["quality:low", "quality:medium"], "0.04"),
    "sd3.5-medium": (50, ["quality:low"], "0.035"),
}
#: The model of the older service (STABILITY_TRANSPORT=grpc). Its sides are multiples of 64.
STABILITY_GRPC = "stable-diffusion-xl-1024-v1-0"
STABILITY_GRPC_SIZES = {
    "1:1": [1024, 1024], "2:3": [832, 1216], "3:2": [1216, 832], "9:16": [768, 1344], "16:9": [1344, 768],
}  # fmt: skip

GOOGLE_SIZES = {
    "1:1": [1024, 1024], "2:3": [848, 1264], "3:2": [1264, 848], "3:4": [896, 1200], "4:3": [1200, 896],
    "9:16": [768, 1376], "16:9": [1376, 768], "21:9": [1584, 672],
}  # fmt: skip
#: Name → preference, options, price per million tokens in and out, estimates.
GOOGLE: dict[str, tuple[int, list[str], tuple[str, str], dict[str, str]]] = {
    "gemini-3.1-flash-image": (10, ["quality"], ("0.50", "60"), {"low": "0.067", "medium": "0.067", "high": "0.101"}),
    "gemini-3-pro-image": (20, ["quality"], ("2", "120"), {"medium": "0.134"}),
    "gemini-2.5-flash-image": (30, ["quality:low", "quality:medium"], ("0.30", "30"), {"medium": "0.039"}),
}
#: Both sides are twice and four times as long. Name → estimates of the models that make them, by resolution.
GOOGLE_LARGER_ESTIMATES = {
    "gemini-3.1-flash-image": {"2K": "0.101", "4K": "0.151"},
    "gemini-3-pro-image": {"2K": "0.134", "4K": "0.24"},
}
#: Follows the models above, which the vendor shuts down on these dates.
GOOGLE_SUCCESSOR = "gemini-nano-banana-2.1"
GOOGLE_ENDS = {
    "gemini-2.5-flash-image": datetime.date(2027, 3, 15),
    "gemini-3-pro-image": datetime.date(2027, 5, 28),
    "gemini-3.1-flash-image": datetime.date(2027, 5, 28),
}
#: Of Google the limit is in tokens, 65,536, which is more.
LONGEST_PROMPTS = {"openai": 32_000, "stability": 10_000, "stability-grpc": 10_000, "google": 32_000, "clipart": 32_000}


def create(apps: Any, schema_editor: Any) -> None:
    """Create the rows that a new installation starts with. Staff may change all of them."""
    styles = apps.get_model("generation", "PromptStyle").objects
    for scope, phrases in (("type", STYLES), ("image-style", IMAGE_STYLES)):
        for name, phrase in phrases.items():
            styles.create(scope=scope, name=name, phrase=phrase)
    add = apps.get_model("generation", "ProviderModel").objects.create
    # A drawing made of shapes has one quality, the best, and comes in every shape.
    add(
        provider="clipart",
        name="openmoji-17",
        capabilities=sorted(["seed", "negativePrompt", "outputFormat", "aspectRatio", "imageStyle", "title", "quality"]),
        sizes={"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]}
        | {"any": {"short": 1024, "step": 16, "widest": 4}},
        price_rule={"per_image": "0"},
    )
    _create_openai(add)
    _create_stability(add)
    _create_google(add)
    # The vendor's published limit: 150 calls in 10 seconds.
    apps.get_model("generation", "ProviderState").objects.create(provider="stability", calls=150, per_seconds=10)


def _create_openai(add: Any) -> None:
    successor = None
    for name, (preference, sizes, price, end) in OPENAI.items():
        made = add(provider="openai", name=name, preference=preference, capabilities=OPENAI_HONOURS, sizes=sizes,
                   price_rule=price, shutdown_date=end, successor=successor if end else None)  # fmt: skip
        successor = successor or made


def _create_stability(add: Any) -> None:
    for name, (preference, quality, price) in STABILITY.items():
        add(provider="stability", name=name, preference=preference, capabilities=STABILITY_HONOURS + quality,
            sizes=STABILITY_SIZES, price_rule={"per_image": price})  # fmt: skip
    add(provider="stability-grpc", name=STABILITY_GRPC, capabilities=["seed", "negativePrompt", "outputFormat:png"],
        sizes=STABILITY_GRPC_SIZES)  # fmt: skip


def _create_google(add: Any) -> None:
    successor = add(provider="google", name=GOOGLE_SUCCESSOR, preference=40,
                    capabilities=["outputFormat:png", "quality"], sizes=GOOGLE_SIZES,
                    price_rule={"per_image": "0.0336"})  # fmt: skip
    for name, (preference, quality, (price_in, price_out), estimates) in GOOGLE.items():
        price = {"per_million": {"input_text": price_in, "input_image": price_in, "output_image": price_out}}
        add(provider="google", name=name, preference=preference, capabilities=["outputFormat:png", *quality],
            sizes=GOOGLE_SIZES, price_rule=price | {"estimate": estimates}, shutdown_date=GOOGLE_ENDS[name],
            successor=successor)  # fmt: skip


def set_longest_prompts(apps: Any, schema_editor: Any) -> None:
    """Set how many characters of a prompt each vendor's models take, by the vendors' documentation."""
    models = apps.get_model("generation", "ProviderModel").objects
    for provider, characters in LONGEST_PROMPTS.items():
        models.filter(provider=provider).update(max_prompt=characters)


#: By role, what is said of an image that is sent with the prompt.
REFERENCES = {
    "character": "Image {n} shows {name}: keep face, proportions, clothes and colors.",
    "style": "Image {n} is the style: draw in the same way.",
    "composition": "Image {n} is the composition: keep its layout.",
    "source": "Image {n} is to be changed; keep all else as it is.",
    "mask": "Image {n} is a mask: change only what is transparent in it.",
}
_OPENAI_IMAGES = {"character": 16, "style": 16, "composition": 16, "source": 1, "total": 16, "mask": True}
#: Provider and model → the images that it takes, by the vendors' documentation.
IMAGES_TAKEN: dict[tuple[str, str], dict[str, Any]] = {
    **{("openai", name): _OPENAI_IMAGES for name in OPENAI if not name.startswith("dall-e")},
    ("google", "gemini-3.1-flash-image"): {"character": 4, "style": 10, "composition": 10, "source": 1, "total": 14},
    ("google", "gemini-3-pro-image"): {"character": 5, "style": 6, "composition": 6, "source": 1, "total": 14},
    ("google", "gemini-2.5-flash-image"): {"character": 3, "style": 3, "composition": 3, "source": 1, "total": 3},
    ("google", GOOGLE_SUCCESSOR): {"character": 4, "style": 10, "composition": 10, "source": 1, "total": 14},
    # Its figures are known by the prompts of their requests, which an upload has not.
    ("clipart", "openmoji-17"): {"character": 4, "style": 1, "total": 4, "uploads": 0},
}
#: Provider and model → US dollars for each image that is sent. OpenAI counts about 6,200 tokens for a portrait.
INPUT_ESTIMATES = {
    **{("openai", name): "0.05" for name, (_, _, price, _) in OPENAI.items() if price},
    ("google", "gemini-3.1-flash-image"): "0.0006",
    ("google", "gemini-3-pro-image"): "0.0023",
    ("google", "gemini-2.5-flash-image"): "0.0004",
}
#: Endpoints of Stability that are guided by images: preference, images, price. A credit is a cent.
STABILITY_CONTROLS: dict[str, tuple[int, dict[str, Any], str]] = {
    "control-style": (60, {"style": 1, "total": 1, "required": True}, "0.05"),
    "control-structure": (70, {"composition": 1, "total": 1, "required": True}, "0.05"),
    "control-style-transfer": (80, {"style": 1, "composition": 1, "total": 2, "required": True}, "0.08"),
}


def add_references(apps: Any, schema_editor: Any) -> None:
    """Set which images models take and what they cost, and add the phrases about them. What staff have made stays."""
    styles = apps.get_model("generation", "PromptStyle").objects
    for name, phrase in REFERENCES.items():
        styles.get_or_create(scope="reference", name=name, defaults={"phrase": phrase})
    models = apps.get_model("generation", "ProviderModel").objects
    for (provider, name), limits in IMAGES_TAKEN.items():
        models.filter(provider=provider, name=name).update(reference_limits=limits)
    for (provider, name), price in INPUT_ESTIMATES.items():
        for model in models.filter(provider=provider, name=name).exclude(price_rule={}):
            model.price_rule = {**model.price_rule, "input_estimate": price}
            model.save(update_fields=["price_rule"])
    for name, (preference, limits, price) in STABILITY_CONTROLS.items():
        columns = {"preference": preference, "capabilities": [*STABILITY_HONOURS], "sizes": STABILITY_SIZES}
        columns |= {"price_rule": {"per_image": price}, "reference_limits": limits}
        columns["max_prompt"] = LONGEST_PROMPTS["stability"]
        models.get_or_create(provider="stability", name=name, defaults=columns)


def remove_references(apps: Any, schema_editor: Any) -> None:
    """Remove the phrases, which an older version does not know."""
    apps.get_model("generation", "PromptStyle").objects.filter(scope="reference").delete()


def add_previews(apps: Any, schema_editor: Any) -> None:
    """Add the capability to OpenAI's models that send previews."""
    models = apps.get_model("generation", "ProviderModel").objects
    for model in models.filter(provider="openai", name__startswith="gpt-image"):
        if isinstance(model.capabilities, list) and "previews" not in model.capabilities:
            models.filter(pk=model.pk).update(capabilities=[*model.capabilities, "previews"])


def set_larger_sizes(apps: Any, schema_editor: Any) -> None:
    """Set the sizes and expected prices of images of more than one megapixel, by the vendors' documentation."""
    larger: dict[tuple[str, str], tuple[Any, Any]]
    larger = {("openai", name): (OPENAI_LARGER_SIZES, OPENAI_LARGER_ESTIMATES) for name in OPENAI_ANY_SIZE_MODELS}
    google_sizes = {
        name: {ratio: [side * factor for side in size] for ratio, size in GOOGLE_SIZES.items()}
        for name, factor in (("2K", 2), ("4K", 4))
    }
    for name, prices in GOOGLE_LARGER_ESTIMATES.items():
        estimates = {resolution: {"medium": price} for resolution, price in prices.items()}
        larger["google", name] = google_sizes, estimates
    # Shapes are sharp in any size.
    drawn = {
        name: {"any": {"pixels": pixels, "longest": 4096, "step": 16, "widest": 4}}
        for name, pixels in (("2K", 4_194_304), ("4K", 8_294_400))
    }
    larger["clipart", "openmoji-17"] = drawn, {}
    models = apps.get_model("generation", "ProviderModel").objects
    for (provider, name), (sizes, estimates) in larger.items():
        for model in models.filter(provider=provider, name=name):
            model.larger_sizes = sizes
            if "estimate" in model.price_rule:  # else staff have changed the rule
                model.price_rule |= {resolution: {"estimate": prices} for resolution, prices in estimates.items()}
            model.save(update_fields=["larger_sizes", "price_rule"])


def create_groups(apps: Any, schema_editor: Any) -> None:
    """Create the groups of the staff's roles with their permissions."""
    _create_permissions(apps, "admin", "auth", "generation")
    roles.make_groups(apps.get_model("auth", "Group"), apps.get_model("auth", "Permission"))


def allow_approvals(apps: Any, schema_editor: Any) -> None:
    """Give the permission to approve to the groups of operators and administrators. What staff have changed stays."""
    _create_permissions(apps, "generation")
    permission = apps.get_model("auth", "Permission").objects.get(
        content_type__app_label="generation", codename=roles.APPROVE.partition(".")[2]
    )
    for group in apps.get_model("auth", "Group").objects.filter(name__in=[roles.OPERATOR, roles.ADMINISTRATOR]):
        group.permissions.add(permission)


def allow_webhooks(apps: Any, schema_editor: Any) -> None:
    """Let the staff see webhooks, and operators and administrators act on them. What staff have changed stays."""
    _create_permissions(apps, "generation")
    wanted = [*roles.SEEN_WEBHOOKS, roles.DISABLE_WEBHOOK, roles.REDELIVER]
    names = [name.partition(".")[2] for name in wanted]
    found = apps.get_model("auth", "Permission").objects.filter(
        content_type__app_label="generation", codename__in=names
    )
    for group in apps.get_model("auth", "Group").objects.filter(name__in=roles.GROUPS):
        allowed = [one for one in found if f"generation.{one.codename}" in roles.GROUPS[group.name]]
        group.permissions.add(*allowed)


def _create_permissions(apps: Any, *labels: str) -> None:
    # Django creates permissions after all migrations, which on a new database is too late for the groups.
    for label in labels:
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
        config.models_module = None
