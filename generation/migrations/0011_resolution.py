"""The sizes of images of more than one megapixel."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0010_temporary_uploads'),
    ]

    operations = [
        migrations.AddField(
            model_name='providermodel',
            name='larger_sizes',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict),
        ),
    ]
