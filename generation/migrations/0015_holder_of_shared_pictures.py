"""Finding what a request holds takes no longer the more is shared."""

from django.db import migrations, models

from generation.migrations._operations import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("generation", "0012_project_and_status")]

    operations = [
        AddIndexMeanwhile(
            model_name="sharedpicture",
            index=models.Index(fields=["holder"], name="shared_picture_holder"),
        )
    ]
