"""Models that send previews."""

from django.db import migrations

from generation.migrations import _seed


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0007_previews'),
    ]

    operations = [
        migrations.RunPython(_seed.add_previews, migrations.RunPython.noop),
    ]
