"""``manage.py prune``: delete what is not to be kept. Run it once a day."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken

from generation import retention
from generation.authentication import LEEWAY
from generation.clock import Now


def _take_its_time() -> None:
    """Lift the limit of a statement for this transaction: these two commands delete all at once."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")


class Command(BaseCommand):
    help = (
        "Deletes requests that ended more than RESULT_RETENTION_DAYS ago with their pictures, files that no request"
        " refers to, and sessions, tokens and keys that have expired. In small steps; it can be stopped at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say which files would be removed; delete nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        dry: bool = options["dry_run"]
        if not dry:
            self.stdout.write(f"requests and batches deleted: {sum(retention.delete_ended())}")
            self.stdout.write(f"idempotency keys deleted: {sum(retention.delete_old_keys())}")
            unshared = sum(retention.delete_unshared())
            with transaction.atomic():
                _take_its_time()
                call_command("clearsessions", verbosity=0)
                # As simplejwt's flushexpiredtokens, but not before a token that was used up cannot hold any more.
                OutstandingToken.objects.filter(expires_at__lte=Now() - LEEWAY).delete()
        swept = 0
        try:
            for key in retention.sweep_orphans(dry=dry):
                swept += 1
                if dry:
                    self.stdout.write(key)
        except OSError as error:
            raise CommandError(f"the storage: {error}") from None
        self.stdout.write(f"files {'to be removed' if dry else 'removed'}: {swept}")
        if not dry:
            self.stdout.write(f"shared images forgotten: {unshared}")
