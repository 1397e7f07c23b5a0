"""Requests, batches and attempts are called so on the staff's pages."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("generation", "0010_role_of_earlier_staff")]

    operations = [
        migrations.AlterModelOptions(
            name="generationattempt", options={"ordering": ["request", "claim"], "verbose_name": "attempt"}
        ),
        migrations.AlterModelOptions(
            name="generationbatch",
            options={"ordering": ["-id"], "verbose_name": "batch", "verbose_name_plural": "batches"},
        ),
        migrations.AlterModelOptions(
            name="generationrequest",
            options={
                "ordering": ["-id"],
                "permissions": [
                    ("cancel_generationrequest", "Can cancel anybody's requests"),
                    ("retry_generationrequest", "Can retry anybody's requests"),
                    ("requeue_generationrequest", "Can send queued requests again"),
                    ("prioritise_generationrequest", "Can change the priority of queued requests"),
                ],
                "verbose_name": "request",
            },
        ),
    ]
