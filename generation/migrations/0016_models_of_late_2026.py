"""Bring the vendors' models up to date: prices of two, one that is new, and when three end. What staff have set stays.

Prices are in US dollars, from the vendors' price lists. Estimates are for one image of about one megapixel.
"""

import datetime
from typing import Any

from django.db import migrations

OPENAI_PRICE = {
    "per_million": {"input_text": "5", "input_image": "8", "output_image": "30"},
    "estimate": {"low": "0.006", "medium": "0.053", "high": "0.211"},
}
OPENAI_PRICED = ["gpt-image-2.6-sunburst", "gpt-image-2.6-flare"]

GOOGLE_NEW = "gemini-nano-banana-2.1"
GOOGLE_SIZES = {
    "1:1": [1024, 1024], "2:3": [848, 1264], "3:2": [1264, 848], "3:4": [896, 1200], "4:3": [1200, 896],
    "9:16": [768, 1376], "16:9": [1376, 768], "21:9": [1584, 672],
}  # fmt: skip
GOOGLE_ENDS = {
    "gemini-2.5-flash-image": datetime.date(2027, 3, 15),
    "gemini-3-pro-image": datetime.date(2027, 5, 28),
    "gemini-3.1-flash-image": datetime.date(2027, 5, 28),
}


def update(apps: Any, schema_editor: Any) -> None:
    models = apps.get_model("generation", "ProviderModel").objects
    models.filter(provider="openai", name__in=OPENAI_PRICED, price_rule={}).update(price_rule=OPENAI_PRICE)
    successor, _ = models.get_or_create(
        provider="google",
        name=GOOGLE_NEW,
        defaults={
            "preference": 40,
            "capabilities": ["outputFormat:png", "quality"],
            "sizes": GOOGLE_SIZES,
            "price_rule": {"per_image": "0.0336"},
        },
    )
    for name, end in GOOGLE_ENDS.items():
        unset = models.filter(provider="google", name=name, shutdown_date__isnull=True)
        unset.filter(successor__isnull=True).update(successor=successor)
        unset.update(shutdown_date=end)


class Migration(migrations.Migration):
    dependencies = [("generation", "0015_shared_holder_and_audit")]

    operations = [migrations.RunPython(update, migrations.RunPython.noop)]
