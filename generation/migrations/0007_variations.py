"""Variations and approvals. Locks the table for a moment only; 0008 does what takes long."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0006_images_of_models'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='generationrequest',
            options={'ordering': ['-id'], 'permissions': [('cancel_generationrequest', "Can cancel any user's requests"), ('retry_generationrequest', "Can retry any user's requests"), ('requeue_generationrequest', 'Can requeue queued requests'), ('prioritise_generationrequest', 'Can change the priority of queued requests'), ('approve_generationrequest', "Can approve and reject any user's images")], 'verbose_name': 'request'},
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='approval',
            field=models.CharField(blank=True, choices=[('approved', 'Approved'), ('rejected', 'Rejected')], db_default='', default='', editable=False, max_length=8),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='approval_note',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=500),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='variation',
            field=models.SmallIntegerField(db_default=0, default=0, editable=False),
        ),
        AddConstraintNotValid(
            model_name='generationrequest',
            constraint=models.CheckConstraint(condition=models.Q(('approval', ''), models.Q(('approval__in', ['approved', 'rejected']), ('status', 'completed')), _connector='OR'), name='request_approval_of_completed'),
        ),
    ]
