"""The indexes and checks of 0005 on large tables, made while the tables are in use."""

from django.contrib.postgres.operations import RemoveIndexConcurrently, ValidateConstraint
from django.db import migrations, models

from generation.migrations._online import AddIndexOnline, AddUniqueOnline


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0005_references")]

    operations = [
        AddIndexOnline(
            model_name="generationqueue",
            index=models.Index(
                condition=models.Q(("held", True), ("priority_weight__gt", 0)),
                fields=["available_at"],
                name="queue_held_due",
            ),
        ),
        AddIndexOnline(
            model_name="generationqueue",
            index=models.Index(
                condition=models.Q(("priority_weight", 0)), fields=["available_at"], name="queue_parked"
            ),
        ),
        RemoveIndexConcurrently(model_name="generationqueue", name="queue_held"),
        AddIndexOnline(
            model_name="generationrequest",
            index=models.Index(
                models.F("owner"),
                models.F("approval"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("approval", ""), _negated=True),
                name="request_owner_approval",
            ),
        ),
        AddIndexOnline(
            model_name="generationrequest",
            index=models.Index(
                models.F("approval"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("approval", ""), _negated=True),
                name="request_approval_newest",
            ),
        ),
        AddUniqueOnline(
            model_name="generationrequest",
            constraint=models.UniqueConstraint(
                condition=models.Q(("approval", "approved"), models.Q(("page_id", ""), _negated=True)),
                fields=("owner", "project_id", "page_id"),
                name="request_one_approved_per_page",
            ),
        ),
        ValidateConstraint(model_name="generationqueue", name="queue_weight_in_range"),
        ValidateConstraint(model_name="generationrequest", name="request_approval_of_completed"),
    ]
