"""Descriptions of the changes of a request, and of the provenance of an image."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema_serializer

from generation.api.errors import NotFound
from generation.api.openapi import examples, schemas
from generation.api.openapi.helpers import (
    BAD_BODY,
    FORBIDDEN,
    OF_REQUEST,
    describe,
    either,
    exception_response,
    operation,
    response,
)
from generation.api.requests import GenerationViewSet, NotCompleted, NotQueued
from generation.api.serializers import ApprovalSerializer, PrioritySerializer

extend_schema_serializer(component_name="Decision")(ApprovalSerializer)
extend_schema_serializer(component_name="PriorityChange")(PrioritySerializer)
describe(
    GenerationViewSet,
    partial_update=operation(
        "decideRequest",
        "Approve or reject an image, or change a priority",
        "Either set the decision about the image of a completed request and its note, or take them back. Of a page of a"
        " project, at most one image of an owner is approved: approving one takes back the approval of another."
        " Or change the priority of a queued request. `sequence` stays, as the status does.",
        tag="Requests",
        parameters=[OF_REQUEST],
        request=either("RequestChange", ApprovalSerializer, PrioritySerializer),
        example=examples.DECISION,
        responses=BAD_BODY
        | exception_response(NotFound)
        | FORBIDDEN
        | exception_response(NotCompleted, NotQueued)
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
