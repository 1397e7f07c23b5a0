"""The newest preview of an attempt."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0006_images_of_models'),
    ]

    operations = [
        migrations.AddField(
            model_name='generationattempt',
            name='preview',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=255),
        ),
    ]
