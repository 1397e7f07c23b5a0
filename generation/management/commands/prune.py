"""The command ``manage.py prune``: delete expired data. Run it once a day."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generation.access.authentication import LEEWAY
from generation.requests import retention
from generation.webhooks import deliveries


class Command(BaseCommand):
    help = (
        "Deletes requests that ended more than RESULT_RETENTION_DAYS ago with their images, uploads that were not used"
        " for UPLOAD_RETENTION_DAYS, webhook deliveries of more than 30 days ago, files that nothing refers to, and"
        " expired sessions, tokens and keys. Works in small steps and can be stopped at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="list the files that would be removed; delete nothing"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry: bool = options["dry_run"]
        if not dry:
            self.stdout.write(f"requests and batches deleted: {sum(retention.delete_ended())}")
            self.stdout.write(f"idempotency keys deleted: {sum(retention.delete_old_keys())}")
            self.stdout.write(f"webhook deliveries deleted: {sum(deliveries.delete_old())}")
            uploads = sum(retention.delete_old_uploads())
            unshared = sum(retention.delete_unshared())
            self.stdout.write(f"sessions and tokens deleted: {sum(retention.delete_expired_sign_ins(leeway=LEEWAY))}")
        swept = 0
        try:
            for key in retention.sweep_orphans(dry=dry):
                swept += 1
                if dry:
                    self.stdout.write(key)
        except OSError as error:
            raise CommandError(f"storage error: {error}") from None
        self.stdout.write(f"files {'to be removed' if dry else 'removed'}: {swept}")
        if not dry:
            self.stdout.write(f"shared images removed from the result cache: {unshared}")
            self.stdout.write(f"uploads deleted: {uploads}")
