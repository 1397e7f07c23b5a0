"""What of a project is in one status, newest first."""

from django.db import migrations, models

from generation.migrations._operations import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0011_names_as_staff_say_them")]

    operations = [
        AddIndexMeanwhile(
            model_name="generationrequest",
            index=models.Index(
                models.F("project_id"),
                models.F("status"),
                models.OrderBy(models.F("id"), descending=True),
                models.F("owner"),
                name="request_project_status",
                condition=models.Q(("project_id", ""), _negated=True),
            ),
        )
    ]
