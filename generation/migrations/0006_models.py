"""The vendors' models as of November 2026: what they honour, what they cost, when they end, and what follows them.

Prices are in US dollars, from the vendors' price lists. Estimates are for one picture of about one megapixel.
"""

import datetime
from typing import Any

from django.db import migrations

OPENAI_SIZES = {"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]}
#: Any size whose sides divide by 16, up to a ratio of 3:1.
OPENAI_ANY_SIZE = OPENAI_SIZES | {"any": {"short": 1024, "step": 16, "widest": 3}}
OPENAI_TOKENS = {"input_text": "5", "input_image": "8", "output_image": "30"}
OPENAI_PRICE = {"per_million": OPENAI_TOKENS, "estimate": {"low": "0.006", "medium": "0.053", "high": "0.211"}}
ENDS_2026_12_01 = datetime.date(2026, 12, 1)

#: Name → preference, sizes, price, end.
OPENAI: dict[str, tuple[int, Any, Any, Any]] = {
    "gpt-image-2": (10, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    "gpt-image-2.5-sunburst": (20, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    "gpt-image-2.5-flare": (30, OPENAI_ANY_SIZE, OPENAI_PRICE, None),
    # No price was published where this was written.
    "gpt-image-2.6-sunburst": (40, OPENAI_SIZES, {}, None),
    "gpt-image-2.6-flare": (50, OPENAI_SIZES, {}, None),
    "gpt-image-1.5": (60, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "gpt-image-1-mini": (70, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "chatgpt-image-latest": (80, OPENAI_SIZES, {}, ENDS_2026_12_01),
    "gpt-image-1": (90, OPENAI_SIZES, {}, datetime.date(2026, 10, 23)),
    "dall-e-3": (90, OPENAI_SIZES, {}, datetime.date(2026, 5, 12)),
    "dall-e-2": (90, OPENAI_SIZES, {}, datetime.date(2026, 5, 12)),
}
OPENAI_HONOURS = ["quality", "outputFormat"]
OPENAI_SUCCESSOR = "gpt-image-2"

STABILITY_SIZES = {
    "1:1": [1024, 1024], "2:3": [832, 1216], "3:2": [1216, 832], "4:5": [896, 1088], "5:4": [1088, 896],
    "9:16": [768, 1344], "16:9": [1344, 768], "9:21": [640, 1536], "21:9": [1536, 640],
}  # fmt: skip
STABILITY_HONOURS = ["seed", "negativePrompt", "outputFormat"]
#: Name → preference, what of quality it stands for, price. The vendor has no such option, but a model for each.
STABILITY: dict[str, tuple[int, list[str], str]] = {
    "core": (10, ["quality:low", "quality:medium"], "0.03"),
    "ultra": (20, ["quality:high"], "0.08"),
    "sd3.5-large": (30, ["quality:medium", "quality:high"], "0.065"),
    "sd3.5-large-turbo": (40, ["quality:low", "quality:medium"], "0.04"),
    "sd3.5-medium": (50, ["quality:low"], "0.035"),
}
#: Of the older service, which is reached with STABILITY_TRANSPORT=grpc only. Its sides divide by 64.
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


def seed(apps: Any, schema_editor: Any) -> None:
    models = apps.get_model("generation", "ProviderModel").objects

    def add(provider: str, name: str, **values: Any) -> Any:
        return models.get_or_create(provider=provider, name=name, defaults=values)[0]

    for name, (preference, sizes, price, end) in OPENAI.items():
        add("openai", name, preference=preference, capabilities=OPENAI_HONOURS, sizes=sizes, price_rule=price,
            shutdown_date=end)  # fmt: skip
    successor = models.get(provider="openai", name=OPENAI_SUCCESSOR)
    models.filter(provider="openai", shutdown_date__isnull=False, successor=None).update(successor=successor)

    for name, (preference, quality, price) in STABILITY.items():
        add("stability", name, preference=preference, capabilities=STABILITY_HONOURS + quality, sizes=STABILITY_SIZES,
            price_rule={"per_image": price})  # fmt: skip
    add("stability-grpc", STABILITY_GRPC, capabilities=["seed", "negativePrompt", "outputFormat:png"],
        sizes=STABILITY_GRPC_SIZES)  # fmt: skip

    for name, (preference, honours, (price_in, price_out), estimates) in GOOGLE.items():
        price = {"per_million": {"input_text": price_in, "input_image": price_in, "output_image": price_out}}
        add("google", name, preference=preference, capabilities=["outputFormat:png", *honours], sizes=GOOGLE_SIZES,
            price_rule=price | {"estimate": estimates})  # fmt: skip

    # A drawing made of shapes has one quality, which is the best; and it comes in every shape.
    clipart = models.get(provider="clipart", name="openmoji-17")
    clipart.capabilities = sorted({*clipart.capabilities, "quality"})
    clipart.sizes = {**clipart.sizes, "any": {"short": 1024, "step": 16, "widest": 4}}
    clipart.save()

    # What the vendor publishes: 150 calls in 10 seconds.
    apps.get_model("generation", "ProviderState").objects.get_or_create(
        provider="stability", defaults={"calls": 150, "per_seconds": 10}
    )


class Migration(migrations.Migration):
    dependencies = [("generation", "0005_providers")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
