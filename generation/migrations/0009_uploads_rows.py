from django.db import migrations

from generation.migrations import _seed


class Migration(migrations.Migration):
    """Give the roles their permissions on uploads."""

    dependencies = [
        ("generation", "0008_previews_rows"),
    ]

    operations = [
        migrations.RunPython(_seed.create_groups, migrations.RunPython.noop),
    ]
