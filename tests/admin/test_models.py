"""What staff may write into models, limits, phrases and budgets, and that nothing of it breaks a submit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generation import caching
from generation.models import Budget, PromptStyle, ProviderModel, ProviderState, model_rows
from generation.models.options import GenerationOptions
from generation.providers import catalogue
from generation.reports import doctor
from tests.admin.pages import text
from tests.api.helpers import SUBMIT, body
from tests.conftest import client_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_queues")]

MODELS = "/admin/generation/providermodel/"
DEEP = "[" * 100_000 + "]" * 100_000
#: Field → values that make a row unusable, so that the catalogue skips it.
BROKEN: dict[str, list[Any]] = {
    "sizes": [
        *({"1024x1024": [1024, 1024]}, [[1024, 1024]], {"1:1": 1024}, {"1:1": [1024]}, {"1:1": ["1024", "1024"]}),
        *({"1:1": [1024, 1024, 1]}, {"1:1": [0, 1024]}, {"1:1": [-1, 5]}, {"1:1": [True, True]}, {"1:1": [1024.5, 1]}),
        *(
            {"1:1": [99_999, 99_999]},
            {"0:1": [64, 64]},
            {"1:1": None},
            {"any": {"short": 1024}},
            {"any": [1024, 16, 3]},
        ),
        {"any": {"short": 1024, "step": 0, "widest": 3}},
        {"any": {"short": 1024, "step": 16, "widest": "3"}},
        {"any": {"short": 1024, "step": 2048, "widest": 3}},
        {"any": {"short": 16_000, "step": 16, "widest": 20}},
        *("1:1", 5, None, True),
    ],
    "larger_sizes": [
        *("2K", [["2K"]], {"2K": [2048, 2048]}, {"4K": {"1:1": [99_999, 99_999]}}, {"2K": {"4K": {}}}),
        {"4K": {"any": {"pixels": 26_000_000, "longest": 4096, "step": 16, "widest": 3}}},
        {"4K": {"any": {"pixels": 8_000_000, "longest": 99_999, "step": 16, "widest": 3}}},
        {"4K": {"any": {"pixels": 8_000_000, "longest": 3840, "step": 2000, "widest": 3}}},
        {"4K": {"any": {"pixels": 8_000_000, "short": 1024, "longest": 3840, "step": 16, "widest": 3}}},
    ],
    "capabilities": [5, "seed", {"seed": True}, [5], [None], [["seed"]], None, ["seed"] * 101],
    "price_rule": [
        *(
            "0.03",
            0.03,
            [],
            None,
            {"per_image": "0.03", "per_million": 3},
            {"per_image": "1e30"},
            {"per_image": "free"},
        ),
        *({"per_image": -1}, {"per_image": None}, {"per_image": "NaN"}, {"per_image": True}, {"per_image": ["0.03"]}),
        *(
            {"per_million": {"output_image": "x"}},
            {"per_million": ["30"]},
            {"estimate": "0.03"},
            {"estimate": {"low": {}}},
        ),
        *({"per_image": "1e999999999"}, {"2K": 5}, {"2K": {"per_image": "free"}}, {"4K": {"estimate": []}}),
    ],
}
#: Values that can be read and are still typing errors.
ODD: dict[str, list[Any]] = {
    "sizes": [],
    "larger_sizes": [{"8K": {}}, {"1K": {}}, {"2K": {"1:1": [1024, 1024]}}, {"4K": {"1:1": [2048, 2000]}}],
    "capabilities": [["qualty"], ["quality:best"], ["outputFormat:"], ["seed:1"], [""], ["\0"]],
    "price_rule": [
        *({"per_imge": "0.03"}, {"per_image": "3000"}, {"per_image": "1", "estimate": {}}, {"estimate": {"best": "1"}}),
        *({"per_million": {"output image": "30"}}, {"per_million": {"output_image": "1000000"}}),
        *({"2K": {"per_imge": "1"}}, {"4K": {"estimate": {"low": "3000"}}}, {"2K": {"4K": {"per_image": "1"}}}),
        {"estimate": {"medium": "0.03"}},
    ],
}
#: Input that is not JSON, or cannot be stored.
TYPED = [
    *(
        "{",
        "NaN",
        '{"1:1": [NaN, 1]}',
        '{"1:1": [1' + "0" * 5000 + ", 1]}",
        DEEP,
        '["\\u0000"]',
        '["\\ud800"]',
        "\0",
        "",
    ),
    '{"per_image": Infinity}',
]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    caching.clear_all()
    yield
    caching.clear_all()


def _form(model: ProviderModel, **changed: str) -> dict[str, Any]:
    form: dict[str, Any] = {
        "provider": model.provider,
        "name": model.name,
        "enabled": "on",
        "preference": model.preference,
        "capabilities": json.dumps(model.capabilities),
        "sizes": json.dumps(model.sizes),
        "price_rule": json.dumps(model.price_rule),
        "larger_sizes": json.dumps(model.larger_sizes),
        "max_prompt": model.max_prompt,
        "shutdown_date": "",
        "successor": "",
    }
    return form | changed


def _row(model: ProviderModel) -> dict[str, Any]:
    return {name: getattr(model, name) for name in ("capabilities", "sizes", "price_rule", "larger_sizes")}


def _model() -> ProviderModel:
    return ProviderModel.objects.get(provider="clipart")


def _saves(client: Client, model: ProviderModel, **changed: str) -> bool:
    answer = client.post(f"{MODELS}{model.pk}/change/", _form(model, **changed))
    assert answer.status_code in {200, 302}, changed
    return answer.status_code == 302


def test_the_form_takes_every_row_as_it_stands(administrator: Client) -> None:
    for model in ProviderModel.objects.all():
        assert model_rows.mistakes(**_row(model)) == [], model
        model.full_clean()
    assert _saves(administrator, _model())


def test_the_form_refuses_a_typing_error_in_a_model(administrator: Client) -> None:
    model = _model()
    row = _row(model)
    for field, values in [*BROKEN.items(), *ODD.items()]:
        for value in values:
            assert [name for name, _ in model_rows.mistakes(**row | {field: value})][:1] == [field], (field, value)
        for value in values[:3]:
            assert not _saves(administrator, model, **{field: json.dumps(value)}), (field, value)
    for typed in TYPED:
        assert not _saves(administrator, model, sizes=typed), typed[:50]
    assert not _saves(administrator, model, preference="99999999")
    assert not _saves(administrator, model, name="a\nb")
    other = ProviderModel.objects.filter(provider="openai").first()
    assert other is not None
    assert not _saves(administrator, model, successor=str(other.pk))
    assert ProviderModel.objects.get(pk=model.pk).sizes == model.sizes


def test_a_mistake_is_told_in_words(administrator: Client) -> None:
    model = _model()
    typed = {
        "sizes": '{"1024x1024": [1024, 1024]}',
        "capabilities": '["qualty"]',
        "price_rule": '{"per_image": "1e30"}',
    }
    page = text(administrator.post(f"{MODELS}{model.pk}/change/", _form(model, **typed)))
    assert "'1024x1024' is not an aspect ratio" in page
    assert "There is no option 'qualty'" in page
    assert "per_image must be an amount in US dollars, not '1e30'" in page


def test_a_row_that_is_broken_all_the_same_is_skipped_and_told(
    administrator: Client, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    good = _model()
    client = client_of(alice)
    client.raise_request_exception = False
    page = Client(raise_request_exception=False)
    page.force_login(alice)
    for field, values in BROKEN.items():
        for value in values:
            if value is None:
                continue  # the column refuses it
            broken = ProviderModel(provider="clipart", name="broken", preference=1, enabled=True)
            for name in _row(good):
                setattr(broken, name, value if name == field else getattr(good, name))
            broken.save()
            caching.clear_all()
            assert catalogue.choices(GenerationOptions())[0].model == good.name, (field, value)
            named = client.post(SUBMIT, body(metadata={"model": "broken"}), format="json")
            assert named.status_code == 400, (field, value)
            if value in values[:2]:
                assert client.post(SUBMIT, body(), format="json").status_code == 200, (field, value)
                assert page.get("/").status_code == 200
                assert administrator.get(MODELS).status_code == 200
                assert administrator.get(f"{MODELS}{broken.pk}/change/").status_code == 200
                found = [finding.what for finding in doctor.findings()]
                assert any("clipart/broken is not used" in what for what in found), found
            broken.delete()
    ProviderModel.objects.create(provider="clipart", name="once", sizes=[])
    caplog.clear()
    for _ in range(3):
        caching.clear_all()
        catalogue.choices(GenerationOptions())
    assert sum("clipart/once is not used" in record.getMessage() for record in caplog.records) == 1


def test_without_any_model_a_submit_is_refused_and_no_error(alice: User, settings: Any) -> None:
    ProviderModel.objects.filter(provider="clipart").update(sizes=5)
    settings.PROVIDER_MODELS = {"clipart": "openmoji-17"}
    caching.clear_all()
    answer = client_of(alice).post(SUBMIT, body(), format="json")
    assert answer.status_code == 400, answer.content
    assert catalogue.offered_models()["clipart"] == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"max_concurrent": "0"}, "pause the provider"),
        ({"max_concurrent": "-1"}, "greater than or equal"),
        ({"max_concurrent": "99999999"}, "less than or equal|From 1 to"),
        ({"calls": "5"}, "needs both"),
        ({"per_seconds": "5"}, "needs both"),
        ({"calls": "0", "per_seconds": "1"}, "From 1 to"),
        ({"calls": "1", "per_seconds": "0"}, "From 1 to"),
        ({"calls": "1", "per_seconds": "2147483647"}, "(one day)"),
        ({"calls": "2147483647", "per_seconds": "1"}, "From 1 to"),
        ({"calls": "9" * 30, "per_seconds": "1"}, "less than or equal|From 1 to"),
        ({"calls": "9" * 5000, "per_seconds": "1"}, "Enter a whole number"),
    ],
)
def test_limits_under_which_nothing_begins_are_refused(
    administrator: Client, typed: dict[str, str], words: str
) -> None:
    form = {"provider": "openai", "max_concurrent": "", "calls": "", "per_seconds": ""} | typed
    assert re.search(words, text(administrator.post("/admin/generation/providerstate/add/", form)))
    assert not ProviderState.objects.filter(provider="openai").exists()


def test_a_providers_name_is_its_key_and_stays(administrator: Client) -> None:
    ProviderState.objects.create(provider="openai")
    form = {"provider": "another", "max_concurrent": "3", "calls": "", "per_seconds": ""}
    assert administrator.post("/admin/generation/providerstate/openai/change/", form).status_code == 302
    assert ProviderState.objects.get(provider="openai").max_concurrent == 3
    assert not ProviderState.objects.filter(provider="another").exists()


def test_a_phrase_has_words_and_an_end(administrator: Client) -> None:
    address = "/admin/generation/promptstyle/add/"
    for phrase in ("\u200b\u200b", "x" * 1_001, "\0", " "):
        form = {"scope": "image-style", "name": "odd", "phrase": phrase}
        assert administrator.post(address, form).status_code == 200, phrase[:5]
    assert not PromptStyle.objects.filter(name="odd").exists()
    form = {"scope": "image-style", "name": "odd", "phrase": "in the style of nothing"}
    assert administrator.post(address, form).status_code == 302


def test_a_budget_is_an_amount(administrator: Client, alice: User) -> None:
    for typed in ("-1", "NaN", "Infinity", "1e400", "1e999999999", "99999999999", "0.001", "", "x", "9" * 5000, "\0"):
        form = {"owner": alice.pk, "per_day": typed}
        assert administrator.post("/admin/generation/budget/add/", form).status_code == 200, typed[:20]
    assert not Budget.objects.exists()
    assert administrator.post("/admin/generation/budget/add/", {"owner": alice.pk, "per_day": "0"}).status_code == 302
