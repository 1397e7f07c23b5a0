"""API keys, deadlines, and how long a prompt may be. Locks each table for a moment only; 0003 does what takes long."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models

from generation.migrations import _seed


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='ApiKey',
            fields=[
                ('id', models.CharField(editable=False, max_length=8, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100)),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('previous_digest', models.CharField(editable=False, max_length=64, null=True)),
                ('previous_until', models.DateTimeField(editable=False, null=True)),
                ('scopes', models.JSONField(default=list)),
                ('allowed_models', models.JSONField(null=True)),
                ('allowed_projects', models.JSONField(null=True)),
                ('max_priority', models.CharField(blank=True, choices=[('urgent', 'Urgent'), ('high', 'High'), ('normal', 'Normal'), ('low', 'Low')], default='', max_length=10, verbose_name='highest priority')),
                ('rate', models.CharField(blank=True, default='', max_length=32, verbose_name='rate of submits')),
                ('daily_budget', models.DecimalField(decimal_places=2, max_digits=12, null=True, verbose_name='US dollars per day')),
                ('max_active', models.PositiveSmallIntegerField(null=True, verbose_name='max. in progress')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('expires_at', models.DateTimeField(null=True)),
                ('revoked_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_at', models.DateTimeField(editable=False, null=True)),
                ('last_used_from', models.CharField(blank=True, default='', editable=False, max_length=45)),
            ],
            options={
                'verbose_name': 'API key',
                'db_table': 'generation_api_keys',
                'ordering': ['-created_at', 'id'],
                'permissions': [('revoke_apikey', "Can revoke any user's API keys")],
            },
        ),
        migrations.RemoveConstraint(
            model_name='statuschange',
            name='status_change_legal',
        ),
        migrations.AddField(
            model_name='generationattempt',
            name='api_key_id',
            field=models.CharField(max_length=8, null=True),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='cancel_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='cancel_reason',
            field=models.CharField(blank=True, choices=[('client', 'By its owner, or because the waiting client left'), ('staff', 'By staff'), ('deadline', 'Its deadline passed'), ('reference_failed', 'Its reference failed')], db_default='', default='', editable=False, max_length=16),
        ),
        migrations.AddField(
            model_name='providermodel',
            name='max_prompt',
            field=models.PositiveIntegerField(db_default=4000, default=4000, verbose_name='longest prompt'),
        ),
        migrations.AlterField(
            model_name='statuschange',
            name='reason',
            field=models.CharField(choices=[('submitted', 'submitted'), ('claimed', 'claimed by a worker'), ('completed', 'image stored'), ('failed', 'failed'), ('retry', 'retry after an error'), ('postponed', 'the provider asked to wait'), ('given_back', 'released by the worker'), ('lease_expired', 'worker lost'), ('cancelled', 'cancelled'), ('client_left', 'the client left before it was sent'), ('deadline', 'cancelled at its deadline'), ('reference_failed', 'its reference failed'), ('retried', 'retried manually')], max_length=32),
        ),
        AddConstraintNotValid(
            model_name='statuschange',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('from_status', ''), ('reason', 'submitted'), ('to_status', 'queued')), models.Q(('from_status', 'queued'), ('reason', 'claimed'), ('to_status', 'in-progress')), models.Q(('from_status', 'in-progress'), ('reason', 'completed'), ('to_status', 'completed')), models.Q(('from_status', 'in-progress'), ('reason', 'failed'), ('to_status', 'failed')), models.Q(('from_status', 'in-progress'), ('reason', 'retry'), ('to_status', 'queued')), models.Q(('from_status', 'in-progress'), ('reason', 'postponed'), ('to_status', 'queued')), models.Q(('from_status', 'in-progress'), ('reason', 'given_back'), ('to_status', 'queued')), models.Q(('from_status', 'in-progress'), ('reason', 'lease_expired'), ('to_status', 'queued')), models.Q(('from_status', 'in-progress'), ('reason', 'lease_expired'), ('to_status', 'failed')), models.Q(('from_status', 'queued'), ('reason', 'cancelled'), ('to_status', 'cancelled')), models.Q(('from_status', 'in-progress'), ('reason', 'cancelled'), ('to_status', 'cancelled')), models.Q(('from_status', 'queued'), ('reason', 'client_left'), ('to_status', 'cancelled')), models.Q(('from_status', 'queued'), ('reason', 'deadline'), ('to_status', 'cancelled')), models.Q(('from_status', 'in-progress'), ('reason', 'deadline'), ('to_status', 'cancelled')), models.Q(('from_status', 'queued'), ('reason', 'reference_failed'), ('to_status', 'cancelled')), models.Q(('from_status', 'failed'), ('reason', 'retried'), ('to_status', 'queued')), models.Q(('from_status', 'cancelled'), ('reason', 'retried'), ('to_status', 'queued')), _connector='OR'), name='status_change_legal'),
        ),
        migrations.AddField(
            model_name='apikey',
            name='owner',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='generation_api_keys', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='api_key',
            field=models.ForeignKey(blank=True, db_index=False, editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='generation.apikey'),
        ),
        AddConstraintNotValid(
            model_name='generationrequest',
            constraint=models.CheckConstraint(condition=models.Q(('cancel_reason__in', ['', 'client', 'staff', 'deadline', 'reference_failed'])), name='request_cancel_reason_known'),
        ),
        migrations.AddIndex(
            model_name='apikey',
            index=models.Index(fields=['owner', 'created_at'], name='api_key_owner'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.UniqueConstraint(fields=('digest',), name='api_key_digest'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.UniqueConstraint(fields=('previous_digest',), name='api_key_previous_digest'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('previous_digest__isnull', True), ('previous_until__isnull', False), _connector='OR'), name='api_key_previous_ends'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('max_active__isnull', True), ('max_active__range', (1, 1000)), _connector='OR'), name='api_key_max_active_in_range'),
        ),
        migrations.AddConstraint(
            model_name='apikey',
            constraint=models.CheckConstraint(condition=models.Q(('daily_budget__isnull', True), ('daily_budget__gte', 0), _connector='OR'), name='api_key_budget_is_not_negative'),
        ),
        migrations.RunPython(_seed.set_longest_prompts, migrations.RunPython.noop),
        migrations.RunPython(_seed.create_groups, migrations.RunPython.noop),
    ]
