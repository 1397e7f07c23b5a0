"""The rights of the staff on webhooks."""

from django.db import migrations

from generation.migrations import _seed


class Migration(migrations.Migration):

    dependencies = [("generation", "0011_estimates")]

    operations = [migrations.RunPython(_seed.allow_webhooks, migrations.RunPython.noop)]
