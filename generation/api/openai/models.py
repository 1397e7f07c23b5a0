"""``/v1/models``: the models of the catalogue."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from rest_framework.request import Request
from rest_framework.response import Response

from generation.access.grants import grant_of
from generation.api.errors import printable
from generation.api.idempotency import current_user
from generation.api.openai.errors import Fault, Refused
from generation.api.openai.views import OpenAIViewSet
from generation.api.permissions import ANY_KEY
from generation.models import ProviderModel
from generation.providers import catalogue

#: Clients expect the time at which a model was created, which the catalogue does not know.
_UNKNOWN_TIME: Final = 0


class ModelsViewSet(OpenAIViewSet):
    """The models that the caller may name in a call."""

    scopes: ClassVar = {"list": ANY_KEY, "retrieve": ANY_KEY}

    def list(self, request: Request) -> Response:
        return Response({"object": "list", "data": list(self._models(request).values())})

    def retrieve(self, request: Request, model_id: str) -> Response:
        found = self._models(request).get(model_id)
        if found is None:
            message = f"The model {printable(model_id)} does not exist"
            raise Refused(Fault(status=404, message=message, param="model", code="model_not_found"))
        return Response(found)

    @staticmethod
    def _models(request: Request) -> dict[str, dict[str, Any]]:
        """Return the models by their names. If two providers have one of the same name, the first counts."""
        grant = grant_of(current_user(request))
        allowed = grant.models if grant else None
        found: dict[str, dict[str, Any]] = {}
        for provider, models in catalogue.offered_models().items():
            for model in models:
                if allowed is None or model.name in allowed:
                    found.setdefault(model.name, _shown(provider, model))
        return found


def _shown(provider: str, model: ProviderModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": _UNKNOWN_TIME,
        "owned_by": provider,
        "shutdown_date": model.shutdown_date and model.shutdown_date.isoformat(),
    }
