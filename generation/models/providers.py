"""Providers, models and prompt styles: settings of staff, and the state that workers record."""

from __future__ import annotations

from typing import ClassVar, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q, Value

from generation.models import model_rows
from generation.models.constraints import is_one_of
from generation.states import ErrorCode, StyleScope

#: The most calls of a rate (each is kept in Redis for the period), and the longest period in seconds.
_MOST_CALLS: Final = 100_000
_LONGEST_RATE: Final = 86_400
_MOST_AT_ONCE: Final = 10_000
_LARGEST_PREFERENCE: Final = 32_767
_LONGEST_PHRASE: Final = 1_000


class ProviderState(models.Model):
    """The state of a provider across all workers: limits set by staff, and the circuit breaker.

    At most ``max_concurrent`` calls run at once, and at most ``calls`` begin within ``per_seconds``. After ``failures``
    in a row it is not called until ``open_until``, because of ``reason``. Without a row there is no limit and the
    breaker is closed.
    """

    provider = models.CharField(primary_key=True, max_length=32)
    max_concurrent = models.PositiveSmallIntegerField("max. concurrent calls", null=True, blank=True)
    calls = models.PositiveIntegerField("max. calls per period", null=True, blank=True)
    per_seconds = models.PositiveIntegerField("period in seconds", null=True, blank=True)
    failures = models.PositiveIntegerField("consecutive failures", default=0, db_default=0)
    reason = models.CharField(max_length=32, choices=ErrorCode.choices, blank=True, default="", db_default="")
    open_until = models.DateTimeField("circuit open until", null=True, blank=True)

    class Meta:
        db_table = "generation_providers"
        verbose_name = "provider"
        constraints: ClassVar = [
            models.CheckConstraint(
                # The last two conditions are needed: a NULL makes a check neither true nor false, and then it passes.
                condition=Q(calls__isnull=True, per_seconds__isnull=True)
                | Q(calls__gte=1, per_seconds__gte=1, calls__isnull=False, per_seconds__isnull=False),
                name="provider_rate_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.provider

    def clean(self) -> None:
        """Refuse limits under which no call would ever begin."""
        mistakes: dict[str, str] = {}
        if self.max_concurrent is not None and not 1 <= self.max_concurrent <= _MOST_AT_ONCE:
            mistakes["max_concurrent"] = (
                f"From 1 to {_MOST_AT_ONCE:,}, or empty for no limit. To stop all calls, pause the provider."
            )
        if (self.calls is None) != (self.per_seconds is None):
            mistakes["per_seconds"] = "A rate needs both calls and seconds. Leave both empty for no limit."
        elif self.calls is not None and self.per_seconds is not None:
            if not 1 <= self.calls <= _MOST_CALLS:
                mistakes["calls"] = f"From 1 to {_MOST_CALLS:,}. To stop all calls, pause the provider."
            if not 1 <= self.per_seconds <= _LONGEST_RATE:
                mistakes["per_seconds"] = f"From 1 to {_LONGEST_RATE:,} seconds (one day)."
        if mistakes:
            raise ValidationError(mistakes)


class ModelState(models.Model):
    """A model that its provider recently said it does not serve.

    ``failures`` counts such answers; the newest came at ``failed_at`` and had the error code ``reason``. Until
    ``set_aside_until`` the model's successor or the next model is used instead. Without a row there was no such answer.
    """

    provider = models.CharField(max_length=32)
    model = models.CharField(max_length=255)
    failures = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=32, choices=ErrorCode.choices)
    failed_at = models.DateTimeField()
    set_aside_until = models.DateTimeField(null=True)

    class Meta:
        db_table = "generation_model_states"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "model"], name="model_state_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class ProviderModel(models.Model):
    """The capabilities of one model, as data, since vendors change their models about twice a year.

    ``sizes`` maps an aspect ratio such as ``1:1`` to ``[width, height]`` in pixels, or ``any`` to the rule by which
    they are found, and ``larger_sizes`` has the same for each resolution above ``1K``. ``capabilities`` lists the
    options of a request that the model honors, or with ``outputFormat:png`` one value of an option. With
    ``quality:high`` the model itself stands for the quality, which is then not sent.
    ``price_rule`` is explained in :mod:`generation.providers.pricing`. A model that is not enabled, or past its
    ``shutdown_date``, is replaced by its ``successor``. A lower ``preference`` is tried first.
    """

    provider = models.CharField(max_length=32)
    name = models.CharField(max_length=255)
    enabled = models.BooleanField(default=True)
    preference = models.PositiveSmallIntegerField(default=100)
    capabilities = models.JSONField(default=list, blank=True)
    sizes = models.JSONField(default=dict, blank=True)
    # Not in ``sizes``: during an update, workers of the older version would skip the whole row.
    larger_sizes = models.JSONField(default=dict, blank=True, db_default=Value({}, output_field=models.JSONField()))
    price_rule = models.JSONField(default=dict, blank=True)
    #: See :mod:`generation.models.model_rows`; empty for a model that takes no images.
    reference_limits = models.JSONField(default=dict, blank=True, db_default=Value({}, output_field=models.JSONField()))
    #: Characters of the prompt that is sent, with all phrases.
    max_prompt = models.PositiveIntegerField("longest prompt", default=4_000, db_default=4_000)
    shutdown_date = models.DateField(null=True, blank=True)
    successor = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="predecessors")

    class Meta:
        db_table = "generation_provider_models"
        verbose_name = "model"
        ordering: ClassVar = ["provider", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "name"], name="provider_model_unique"),
            models.CheckConstraint(
                condition=Q(successor__isnull=True) | ~Q(successor=F("id")), name="provider_model_not_its_own_successor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"

    def clean(self) -> None:
        """Refuse a row that the catalogue could not read, and a successor that it would not find."""
        mistakes: dict[str, list[str]] = {}
        found = model_rows.mistakes(
            capabilities=self.capabilities,
            sizes=self.sizes,
            price_rule=self.price_rule,
            larger_sizes=self.larger_sizes,
            reference_limits=self.reference_limits,
        )
        for field, text in found:
            mistakes.setdefault(field, []).append(text)
        if self.preference > _LARGEST_PREFERENCE:
            mistakes["preference"] = [f"At most {_LARGEST_PREFERENCE}."]
        if not self.name.isprintable() or " " in self.name:
            mistakes["name"] = ["The name must not contain spaces or control characters."]
        if self.successor is not None and self.successor.provider != self.provider:
            mistakes["successor"] = ["The successor must be a model of the same provider."]
        if mistakes:
            raise ValidationError(mistakes)


class PromptStyle(models.Model):
    """A phrase that is added to the client's prompt: by the type of image, by ``metadata.imageStyle``, or by the role
    of an image that is sent with it. In the latter, ``{n}`` is the number of the image and ``{name}`` its name."""

    scope = models.CharField(max_length=16, choices=StyleScope.choices)
    name = models.CharField(max_length=100)
    phrase = models.TextField()

    class Meta:
        db_table = "generation_prompt_styles"
        ordering: ClassVar = ["scope", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "name"], name="prompt_style_unique"),
            is_one_of("prompt_style_scope_known", "scope", StyleScope),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.name}"

    def clean(self) -> None:
        """Refuse a phrase without visible characters, or one too long to add to a prompt."""
        text = self.phrase.strip()
        if len(text) > _LONGEST_PHRASE:
            raise ValidationError({"phrase": f"At most {_LONGEST_PHRASE:,} characters."})
        if not any(character.isprintable() and not character.isspace() for character in text):
            raise ValidationError({"phrase": "Enter a phrase."})
        self.phrase = text
