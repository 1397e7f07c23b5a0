"""The indexes and checks of 0002 on large tables, made while the tables are in use."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from generation.migrations._online import AddIndexOnline


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0002_keys_and_deadlines")]

    operations = [
        AddIndexOnline(
            model_name="generationattempt",
            index=models.Index(
                condition=models.Q(("api_key_id__isnull", False)),
                fields=["api_key_id", "finished_at"],
                include=("booked_cost",),
                name="attempt_key_cost",
            ),
        ),
        AddIndexOnline(
            model_name="generationrequest",
            index=models.Index(
                condition=models.Q(("cancel_at__isnull", False), ("status__in", ["in-progress", "queued"])),
                fields=["cancel_at"],
                name="request_deadline",
            ),
        ),
        AddIndexOnline(
            model_name="generationrequest",
            index=models.Index(
                condition=models.Q(("api_key__isnull", False), ("status__in", ["in-progress", "queued"])),
                fields=["api_key", "status"],
                name="request_key_active",
            ),
        ),
        ValidateConstraint(model_name="statuschange", name="status_change_legal"),
        ValidateConstraint(model_name="generationrequest", name="request_cancel_reason_known"),
    ]
