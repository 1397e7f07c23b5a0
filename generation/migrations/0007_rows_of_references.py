"""The phrases about images, what models take and make, and the rights of the staff."""

from django.db import migrations

from generation.migrations import _seed


class Migration(migrations.Migration):

    dependencies = [("generation", "0006_indexes_of_references")]

    operations = [
        migrations.RunPython(_seed.add_references, _seed.remove_references),
        migrations.RunPython(_seed.add_previews, migrations.RunPython.noop),
        migrations.RunPython(_seed.set_larger_sizes, migrations.RunPython.noop),
        migrations.RunPython(_seed.create_groups, migrations.RunPython.noop),
        migrations.RunPython(_seed.allow_approvals, migrations.RunPython.noop),
    ]
