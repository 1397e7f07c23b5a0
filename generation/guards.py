"""What must hold for a step: the conditions of the statements that are prepared, each with what it has to be told."""

from __future__ import annotations

from typing import Final

from django.db.models import Exists, OuterRef, Q, Subquery

from generation import pauses
from generation.clock import Now
from generation.models import GenerationBatch, GenerationQueue, GenerationRequest, Pause, ProviderState
from generation.prepared import IS_CHANGED, Condition, Param
from generation.states import AttemptOutcome, PauseScope

#: A request that is where the step begins.
AT: Final = Condition(Q(pk=Param("pk"), status=Param("source")))
#: Where PostgreSQL had to wait for the row, it looks at this row's newest version and at everything else as it was
#: before. Somebody may have claimed the request and given it back meanwhile, with a new row in the ledger.
_UNTOUCHED: Final = Q(sequence=Subquery(GenerationRequest.objects.filter(pk=OuterRef("pk")).values("sequence")))
#: The same, as far as nothing that it belongs to is paused.
AT_AND_NOT_PAUSED: Final = Condition(AT.q & pauses.RUNNING)
#: A queued request that is due; and one that is in no batch with a limit, so that nobody's places have to be counted.
DUE: Final = Condition(
    AT_AND_NOT_PAUSED.q
    & _UNTOUCHED
    & Q(Exists(GenerationQueue.objects.filter(request_id=OuterRef("pk"), available_at__lte=Now())))
)
DUE_WITHOUT_LIMIT: Final = Condition(
    DUE.q & ~Q(Exists(GenerationBatch.objects.filter(pk=OuterRef("batch_id"), max_concurrent__isnull=False)))
)
#: A request while the claim holds; and one whose lease ran out.
FENCE: Final = Condition(AT.q & Q(claims=Param("claims")))
EXPIRED: Final = Condition(FENCE.q & Q(lease_expires_at__lt=Now()))
#: The ledger's row and the attempt of a request that was just changed.
ENTRY_OF_CHANGED: Final = Condition(Q(pk=Param("pk")) & IS_CHANGED)
_ATTEMPT: Final = Q(request_id=Param("request"), claim=Param("claim"))
ATTEMPT_OF_CHANGED: Final = Condition(_ATTEMPT & IS_CHANGED)
#: An attempt that goes on, and whose provider has neither a limit nor trouble and is not paused.
RUNNING_WITHOUT_STATE: Final = Condition(
    _ATTEMPT
    & Q(outcome=AttemptOutcome.RUNNING)
    & ~Q(Exists(ProviderState.objects.filter(pk=Param("name"))))
    & ~Q(Exists(Pause.objects.filter(scope=PauseScope.PROVIDER, value=Param("name"))))
)
