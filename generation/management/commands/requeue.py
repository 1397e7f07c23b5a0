"""The command ``manage.py requeue``: retry failed or cancelled requests, and send lost messages again."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from generation import identifiers
from generation.models import GenerationRequest
from generation.queue import dispatch
from generation.queue.broker import BrokerUnavailable
from generation.requests import lifecycle, maintenance
from generation.states import ErrorCode, Status

#: Ids per query.
_PAGE: Final = 1000


def _failed_with(code: str | None) -> Iterator[str]:
    """Yield the ids of all requests that failed with this code, oldest first."""
    last = ""
    while code:
        failed = GenerationRequest.objects.filter(status=Status.FAILED, error__code=code, pk__gt=last).order_by("pk")
        page = list(failed.values_list("pk", flat=True)[:_PAGE])
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1]


class Command(BaseCommand):
    help = "Queues failed or cancelled requests again with new attempts, and sends queued ones again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID")
        parser.add_argument(
            "--failed", metavar="CODE", choices=ErrorCode.values, help="all requests that failed with this code"
        )
        parser.add_argument("--lost", action="store_true", help="all queued requests whose message was lost")
        parser.add_argument("--by", metavar="NAME", help="the staff member recorded as the actor")

    def handle(self, *args: Any, **options: Any) -> None:
        if not (options["ids"] or options["failed"] or options["lost"]):
            raise CommandError("Give ids, --failed CODE or --lost.")
        if options["lost"]:
            self._send_lost()
        actor = self._actor(options["by"])
        for request_id in chain(map(identifiers.identifier, options["ids"]), _failed_with(options["failed"])):
            self.stdout.write(f"{request_id}: {self._requeue(request_id, actor)}")

    def _send_lost(self) -> None:
        while restored := maintenance.restore_queue_rows():
            self.stdout.write(f"{restored} queue rows restored")
        self.stdout.write(f"{dispatch.mark_undelivered()} to be sent again")
        try:
            self.stdout.write(f"{dispatch.send_due()} sent")
        except BrokerUnavailable:
            self.stdout.write("None sent: Redis cannot be reached. The dispatcher sends them when Redis is available.")

    @staticmethod
    def _actor(name: str | None) -> User | None:
        if name is None:
            return None
        try:
            return User.objects.get(username=identifiers.user_name(name), is_staff=True)
        except User.DoesNotExist:
            raise CommandError(f"There is no staff member {name}.") from None

    @staticmethod
    def _requeue(request_id: str, actor: User | None) -> str:
        if lifecycle.retry(request_id, actor=actor):
            return "queued again"
        if dispatch.mark_undelivered(request_id):
            return "is queued; will be sent again"
        request = GenerationRequest.objects.filter(pk=request_id).first()
        return f"skipped, since it is {request.status}" if request else "there is no such request"
