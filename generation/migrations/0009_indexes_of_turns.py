"""The indexes of 0008, made while the tables are in use. The index of the former order stays for the processes of the
version before, which still run during an upgrade."""

from django.db import migrations, models

from generation.migrations._online import AddIndexOnline

_ORDER = (models.OrderBy(models.F("priority_weight"), descending=True), models.F("turn"), models.F("queued_at"))


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0008_turns")]

    operations = [
        AddIndexOnline(model_name="generationqueue", index=models.Index(*_ORDER, name="queue_turns")),
        AddIndexOnline(
            model_name="generationqueue",
            index=models.Index(*_ORDER, condition=models.Q(("held", False)), name="queue_startable"),
        ),
        AddIndexOnline(
            model_name="generationqueue",
            index=models.Index(
                condition=models.Q(("fair_key", ""), _negated=True),
                fields=["fair_key", "priority_weight", "turn"],
                name="queue_fair_key",
            ),
        ),
    ]
