"""Turns between owners in the queue, and requests that do not start before a time. Locks large tables for a moment only;
0009 makes the indexes."""

from django.db import migrations, models

from generation.migrations import _turns


class Migration(migrations.Migration):
    dependencies = [("generation", "0007_rows_of_references")]

    operations = [
        migrations.AddField(
            model_name="generationqueue",
            name="fair_key",
            field=models.CharField(blank=True, db_default="", default="", max_length=64),
        ),
        migrations.AddField(
            model_name="generationqueue", name="turn", field=models.BigIntegerField(db_default=0, default=0)
        ),
        migrations.AddField(
            model_name="generationrequest",
            name="fair_key",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="generationrequest", name="not_before", field=models.DateTimeField(editable=False, null=True)
        ),
        migrations.RunPython(_turns.create, _turns.drop),
    ]
