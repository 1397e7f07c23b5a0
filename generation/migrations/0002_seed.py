"""The phrases that are added to prompts by type, and the models that the built-in provider has."""

from typing import Any

from django.db import migrations

STYLES = {
    "coloring-page": "coloring book style, black and white line art, clear outlines",
    "cover": "book cover design, professional, eye-catching",
    "illustration": "children's book illustration, warm colours, clear composition",
    "character-reference": "character reference sheet, the whole figure in several views, plain background",
    "background": "background scene without characters, calm composition with room in the middle",
}
IMAGE_STYLES = {
    "cartoon": "cartoon style, rounded shapes, friendly faces",
    "watercolor": "watercolour style, soft washes, visible paper",
    "realistic": "realistic style, natural proportions and light",
}
CLIPART = {
    "capabilities": ["seed", "negativePrompt", "outputFormat", "aspectRatio", "imageStyle", "title"],
    "sizes": {"1:1": [1024, 1024], "2:3": [1024, 1536], "3:2": [1536, 1024]},
    "price_rule": {"per_image": "0"},
}


def seed(apps: Any, schema_editor: Any) -> None:
    styles = apps.get_model("generation", "PromptStyle").objects
    for scope, phrases in (("type", STYLES), ("image-style", IMAGE_STYLES)):
        for name, phrase in phrases.items():
            styles.get_or_create(scope=scope, name=name, defaults={"phrase": phrase})
    models = apps.get_model("generation", "ProviderModel").objects
    models.get_or_create(provider="clipart", name="openmoji-17", defaults=CLIPART)


class Migration(migrations.Migration):
    dependencies = [("generation", "0001_initial")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
