"""Webhooks: endpoints, their outbox, and deliveries. Locks each large table for a moment only."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

from generation.migrations import _webhooks


class Migration(migrations.Migration):

    dependencies = [
        ('generation', '0009_indexes_of_turns'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='WebhookEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('request_id', models.CharField(max_length=64)),
                ('sequence', models.PositiveIntegerField()),
                ('event', models.CharField(choices=[('request.started', 'A request was started'), ('request.completed', 'A request was completed'), ('request.failed', 'A request failed'), ('request.cancelled', 'A request was cancelled'), ('request.approved', 'An image was approved'), ('batch.completed', 'All requests of a batch have ended'), ('webhook.test', 'Test')], max_length=32)),
                ('snapshot', models.JSONField()),
                ('at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'generation_webhook_events',
            },
        ),
        migrations.CreateModel(
            name='WebhookSecret',
            fields=[
                ('secret', models.CharField(editable=False, max_length=255)),
                ('previous_secret', models.CharField(blank=True, default='', editable=False, max_length=255)),
                ('previous_until', models.DateTimeField(editable=False, null=True)),
                ('owner', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='generation_webhook_secret', serialize=False, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'default webhook secret',
                'db_table': 'generation_webhook_secrets',
            },
        ),
        migrations.AddField(
            model_name='generationbatch',
            name='webhook_events',
            field=models.JSONField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='generationbatch',
            name='webhook_url',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=2048),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='webhook_events',
            field=models.JSONField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='generationrequest',
            name='webhook_url',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=2048),
        ),
        migrations.AlterField(
            model_name='workerprocess',
            name='kind',
            field=models.CharField(choices=[('worker', 'Worker'), ('dispatcher', 'Dispatcher'), ('deliverer', 'Webhook deliverer')], default='worker', max_length=16),
        ),
        migrations.CreateModel(
            name='WebhookEndpoint',
            fields=[
                ('secret', models.CharField(editable=False, max_length=255)),
                ('previous_secret', models.CharField(blank=True, default='', editable=False, max_length=255)),
                ('previous_until', models.DateTimeField(editable=False, null=True)),
                ('id', models.CharField(editable=False, max_length=64, primary_key=True, serialize=False)),
                ('url', models.CharField(max_length=2048)),
                ('events', models.JSONField(default=list)),
                ('project_id', models.CharField(blank=True, default='', max_length=255)),
                ('description', models.CharField(blank=True, default='', max_length=200)),
                ('enabled', models.BooleanField(default=True)),
                ('disabled_reason', models.CharField(blank=True, choices=[('gone', 'It answered 410 Gone'), ('failing', 'Nothing could be delivered for five days'), ('staff', 'The staff disabled it')], default='', max_length=16)),
                ('failing_since', models.DateTimeField(editable=False, null=True)),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('owner', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='generation_webhooks', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'webhook endpoint',
                'db_table': 'generation_webhook_endpoints',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='WebhookDelivery',
            fields=[
                ('id', models.CharField(editable=False, max_length=64, primary_key=True, serialize=False)),
                ('target', models.CharField(max_length=300)),
                ('host', models.CharField(max_length=255)),
                ('url', models.CharField(max_length=2048)),
                ('event', models.CharField(choices=[('request.started', 'A request was started'), ('request.completed', 'A request was completed'), ('request.failed', 'A request failed'), ('request.cancelled', 'A request was cancelled'), ('request.approved', 'An image was approved'), ('batch.completed', 'All requests of a batch have ended'), ('webhook.test', 'Test')], max_length=32)),
                ('request_id', models.CharField(blank=True, default='', max_length=64)),
                ('batch_id', models.CharField(blank=True, default='', max_length=64)),
                ('sequence', models.BigIntegerField(default=0)),
                ('snapshot', models.JSONField()),
                ('state', models.CharField(choices=[('pending', 'Pending'), ('delivered', 'Delivered'), ('failed', 'Failed')], default='pending', max_length=16)),
                ('tries', models.PositiveSmallIntegerField(db_default=0, default=0)),
                ('attempts', models.JSONField(db_default=models.Value([], output_field=models.JSONField()), default=list)),
                ('next_attempt_at', models.DateTimeField(null=True)),
                ('leased_until', models.DateTimeField(editable=False, null=True)),
                ('claim', models.PositiveIntegerField(db_default=0, default=0, editable=False)),
                ('expires_at', models.DateTimeField()),
                ('occurred_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ('unique_key', models.CharField(editable=False, max_length=400, null=True)),
                ('owner', models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('endpoint', models.ForeignKey(db_index=False, editable=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='generation.webhookendpoint')),
            ],
            options={
                'verbose_name': 'webhook delivery',
                'verbose_name_plural': 'webhook deliveries',
                'db_table': 'generation_webhook_deliveries',
                'ordering': ['-id'],
            },
        ),
        migrations.AddIndex(
            model_name='webhookendpoint',
            index=models.Index(fields=['owner', 'id'], name='webhook_endpoint_owner'),
        ),
        migrations.AddConstraint(
            model_name='webhookendpoint',
            constraint=models.CheckConstraint(condition=models.Q(('disabled_reason', ''), models.Q(('disabled_reason__in', ['gone', 'failing', 'staff']), ('enabled', False)), _connector='OR'), name='webhook_endpoint_reason_if_disabled'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('endpoint', None)), fields=['owner', 'id'], name='webhook_delivery_call'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('state', 'delivered'), _negated=True), fields=['state', 'id'], name='webhook_delivery_trouble'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['endpoint', 'state', 'id'], name='webhook_delivery_state'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['endpoint', 'id'], name='webhook_delivery_endpoint'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['owner', 'id'], name='webhook_delivery_owner'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('request_id', ''), _negated=True), fields=['request_id', 'id'], name='webhook_delivery_request'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['target', 'next_attempt_at'], name='webhook_delivery_due'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('leased_until__isnull', False)), fields=['leased_until'], name='webhook_delivery_leased'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(condition=models.Q(('state', 'pending')), fields=['expires_at'], name='webhook_delivery_expiry'),
        ),
        migrations.AddIndex(
            model_name='webhookdelivery',
            index=models.Index(fields=['created_at'], name='webhook_delivery_age'),
        ),
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.UniqueConstraint(fields=('unique_key',), name='webhook_delivery_once'),
        ),
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['pending', 'delivered', 'failed'])), name='webhook_delivery_state_known'),
        ),
        migrations.AddConstraint(
            model_name='webhookdelivery',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('next_attempt_at__isnull', False), ('state', 'pending')), models.Q(models.Q(('state', 'pending'), _negated=True), ('next_attempt_at__isnull', True), ('leased_until__isnull', True)), _connector='OR'), name='webhook_delivery_due_iff_pending'),
        ),
        migrations.RunPython(_webhooks.create, _webhooks.drop),
    ]
