"""Which models make images of more than one megapixel."""

from django.db import migrations

from generation.migrations import _seed


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0011_resolution'),
    ]

    operations = [
        migrations.RunPython(_seed.set_larger_sizes, migrations.RunPython.noop),
    ]
