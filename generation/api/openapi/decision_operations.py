"""Descriptions of the operations on the image of a completed request: the decision about it, and its provenance."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_serializer

from generation.api.errors import NotFound
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    FORBIDDEN,
    OF_REQUEST,
    describe,
    exception_response,
    operation,
    response,
)
from generation.api.requests import GenerationViewSet, NotCompleted
from generation.api.serializers import ApprovalSerializer

extend_schema_serializer(component_name="Decision")(ApprovalSerializer)
describe(
    GenerationViewSet,
    approve=operation(
        "decideRequest",
        "Approve or reject an image",
        "Set the decision and its note, or take them back. Of a page of a project, at most one image of an owner is"
        " approved: approving one takes back the approval of another. `sequence` stays, as the status does.",
        tag="Requests",
        parameters=[OF_REQUEST],
        request=ApprovalSerializer,
        example=examples.DECISION,
        responses=BAD_BODY
        | exception_response(NotFound)
        | FORBIDDEN
        | exception_response(NotCompleted)
        | {200: response(schemas.RequestSerializer, "The request and its status.", approved=examples.APPROVED)},
    ),
    provenance=operation(
        "getProvenance",
        "Get the provenance of an image",
        "How the image of a completed request was made, for declarations of images by models.",
        tag="Requests",
        parameters=[OF_REQUEST],
        responses=exception_response(NotFound)
        | exception_response(NotCompleted)
        | {200: response(schemas.Provenance, "The provenance.", provenance=examples.PROVENANCE)},
    ),
)
