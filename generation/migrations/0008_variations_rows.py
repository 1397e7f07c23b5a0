"""The indexes of 0007, made while the table is in use, and the permission to approve."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models

from generation.migrations import _seed
from generation.migrations._online import AddIndexOnline, AddUniqueOnline


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0007_variations")]

    operations = [
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
        ValidateConstraint(model_name="generationrequest", name="request_approval_of_completed"),
        migrations.RunPython(_seed.allow_approvals, migrations.RunPython.noop),
    ]
