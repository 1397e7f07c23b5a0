"""Tables of counters from which figures are read."""

from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models

from generation.db.functions import Now

#: The changes come and go by the thousand, so what is dead has to be cleared away by its number, not by its share.
_STORAGE = """
ALTER TABLE generation_counter_changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE generation_counters SET (fillfactor = 70);
ALTER TABLE generation_queue_lengths SET (fillfactor = 50)
"""


class Migration(migrations.Migration):
    dependencies = [("generation", "0016_models_of_late_2026")]

    operations = [
        migrations.CreateModel(
            name="Counter",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("grain", models.CharField(max_length=16)),
                ("start", models.DateTimeField()),
                ("event", models.CharField(max_length=32)),
                ("type", models.CharField(db_default="", max_length=32)),
                ("provider", models.CharField(db_default="", max_length=32)),
                ("error_code", models.CharField(db_default="", max_length=32)),
                ("count", models.BigIntegerField(db_default=0)),
                ("microseconds", models.BigIntegerField(db_default=0)),
                ("cost", models.DecimalField(db_default=0, decimal_places=6, max_digits=18)),
                ("histogram", ArrayField(base_field=models.BigIntegerField(), size=None)),
            ],
            options={"db_table": "generation_counters"},
        ),
        migrations.CreateModel(
            name="CounterChange",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=Now())),
                ("grain", models.CharField(db_default="", max_length=16)),
                ("event", models.CharField(db_default="", max_length=32)),
                ("type", models.CharField(db_default="", max_length=32)),
                ("provider", models.CharField(db_default="", max_length=32)),
                ("error_code", models.CharField(db_default="", max_length=32)),
                ("count", models.BigIntegerField(db_default=0)),
                ("microseconds", models.BigIntegerField(null=True)),
                ("bucket", models.SmallIntegerField(null=True)),
                ("cost", models.DecimalField(db_default=0, decimal_places=6, max_digits=18)),
                ("weight", models.SmallIntegerField(db_default=0)),
                ("length", models.BigIntegerField(db_default=0)),
                ("queued", models.BigIntegerField(db_default=0)),
                ("in_progress", models.BigIntegerField(db_default=0)),
            ],
            options={"db_table": "generation_counter_changes"},
        ),
        migrations.CreateModel(
            name="QueueLength",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=16)),
                ("weight", models.SmallIntegerField()),
                ("hour", models.DateTimeField()),
                ("length", models.BigIntegerField()),
            ],
            options={"db_table": "generation_queue_lengths"},
        ),
        migrations.AddConstraint(
            model_name="counter",
            constraint=models.UniqueConstraint(
                fields=["grain", "start", "event", "type", "provider", "error_code"], name="counter_one_per_key"
            ),
        ),
        migrations.AddConstraint(
            model_name="queuelength",
            constraint=models.UniqueConstraint(fields=["kind", "weight", "hour"], name="queue_length_one_per_key"),
        ),
        migrations.RunSQL(_STORAGE, migrations.RunSQL.noop),
    ]
