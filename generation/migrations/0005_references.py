"""Images that are sent with requests, variations and approvals, previews, larger images. Locks large tables for a moment
only; 0006 does what takes long."""

import django.db.models.deletion
from django.conf import settings
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0004_uploads'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='GenerationReference',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('sha256', models.CharField(blank=True, db_default='', default='', max_length=64)),
            ],
            options={
                'db_table': 'generation_references',
                'ordering': ['request', 'position'],
            },
        ),
        migrations.AlterModelOptions(
            name='generationrequest',
            options={'ordering': ['-id'], 'permissions': [('cancel_generationrequest', "Can cancel any user's requests"), ('retry_generationrequest', "Can retry any user's requests"), ('requeue_generationrequest', 'Can requeue queued requests'), ('prioritise_generationrequest', 'Can change the priority of queued requests'), ('approve_generationrequest', "Can approve and reject any user's images")], 'verbose_name': 'request'},
        ),
        migrations.RemoveConstraint(
            model_name='generationqueue',
            name='queue_weight_in_range',
        ),
        migrations.RemoveConstraint(
            model_name='promptstyle',
            name='prompt_style_scope_known',
        ),
        migrations.AddField(
            model_name='generationattempt',
            name='preview',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=255),
        ),
        migrations.AddField(
            model_name='generationattempt',
            name='sent_images',
            field=models.JSONField(db_default=models.Value([], output_field=models.JSONField()), default=list),
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
            name='inputs',
            field=models.JSONField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='variation',
            field=models.SmallIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='providermodel',
            name='larger_sizes',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name='providermodel',
            name='reference_limits',
            field=models.JSONField(blank=True, db_default=models.Value({}, output_field=models.JSONField()), default=dict),
        ),
        migrations.AddField(
            model_name='upload',
            name='is_temporary',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AlterField(
            model_name='promptstyle',
            name='scope',
            field=models.CharField(choices=[('type', 'Image type'), ('image-style', 'Image style'), ('reference', 'Reference image')], max_length=16),
        ),
        AddConstraintNotValid(
            model_name='generationqueue',
            constraint=models.CheckConstraint(condition=models.Q(('priority_weight__range', (0, 1000))), name='queue_weight_in_range'),
        ),
        AddConstraintNotValid(
            model_name='generationrequest',
            constraint=models.CheckConstraint(condition=models.Q(('approval', ''), models.Q(('approval__in', ['approved', 'rejected']), ('status', 'completed')), _connector='OR'), name='request_approval_of_completed'),
        ),
        migrations.AddConstraint(
            model_name='promptstyle',
            constraint=models.CheckConstraint(condition=models.Q(('scope__in', ['type', 'image-style', 'reference'])), name='prompt_style_scope_known'),
        ),
        migrations.AddField(
            model_name='generationreference',
            name='request',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='references', to='generation.generationrequest'),
        ),
        migrations.AddField(
            model_name='generationreference',
            name='source',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='referring', to='generation.generationrequest'),
        ),
        migrations.AddField(
            model_name='generationreference',
            name='upload',
            field=models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='referring', to='generation.upload'),
        ),
        migrations.AddIndex(
            model_name='generationreference',
            index=models.Index(condition=models.Q(('source__isnull', False)), fields=['source'], name='reference_source'),
        ),
        migrations.AddIndex(
            model_name='generationreference',
            index=models.Index(condition=models.Q(('upload__isnull', False)), fields=['upload'], name='reference_upload'),
        ),
        migrations.AddConstraint(
            model_name='generationreference',
            constraint=models.UniqueConstraint(fields=('request', 'position'), name='reference_position_unique'),
        ),
        migrations.AddConstraint(
            model_name='generationreference',
            constraint=models.CheckConstraint(condition=models.Q(('source__isnull', True), ('upload__isnull', True), _connector='OR'), name='reference_to_one_image'),
        ),
    ]
