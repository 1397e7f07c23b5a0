"""Which provider a request goes to, and what is wrong with settings that name none."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from workers.checks import providers_are_known, transports_are_installed
from workers.providers.registry import PROVIDER_CLASSES, Registry

CLIPART: dict[str, Any] = {}
GOOGLE = {"api_key": "AIza-1", "project": "", "location": "global", "base_url": "http://127.0.0.1:9", "timeout": 1.0}
OPENAI = {"api_key": "sk-1", "base_url": "http://127.0.0.1:9/v1", "timeout": 1.0}
STABILITY = {"api_key": "sk-2", "base_url": "http://127.0.0.1:9", "timeout": 1.0}


def test_the_first_is_chosen_unless_another_is_wanted() -> None:
    registry = Registry(["openai", "clipart"], {"openai": OPENAI, "clipart": CLIPART})
    assert registry.choose().name == "openai"
    assert registry.choose("clipart").name == "clipart"


def test_each_is_made_once() -> None:
    registry = Registry(["openai"], {"openai": OPENAI})
    assert registry.choose() is registry.choose("openai")


@pytest.mark.parametrize("wanted", ["openai", "unknown"])
def test_one_that_is_not_configured_cannot_be_wanted(wanted: str) -> None:
    with pytest.raises(LookupError, match=wanted):
        Registry(["clipart"], {"openai": OPENAI, "clipart": CLIPART}).choose(wanted)


@pytest.mark.parametrize("names", [[], ["unknown"], ["clipart", "unknown"]])
def test_names_that_are_no_provider_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="no such provider"):
        Registry(names, {})


def test_a_provider_without_its_key_is_refused_at_start() -> None:
    with pytest.raises(ValueError, match="there is no key for openai"):
        Registry(["clipart", "openai"], {"clipart": CLIPART})


def test_the_options_can_name_another_class_for_the_provider() -> None:
    pytest.importorskip("stability_sdk", reason="there is none for Python 3.13")
    other = "workers.providers.stability_grpc:StabilityGrpcProvider"
    options = {"class": other, "api_key": "sk-2", "host": "127.0.0.1:9", "timeout": 1.0}
    provider = Registry(["stability"], {"stability": options}).choose()
    assert (type(provider).__name__, provider.name) == ("StabilityGrpcProvider", "stability")
    assert options["class"] == other


def test_settings_that_cannot_work_are_found_by_the_system_check(settings: Any) -> None:
    assert providers_are_known() == []
    settings.PROVIDERS = ["openai"]
    settings.PROVIDER_OPTIONS = {"clipart": CLIPART}
    [error] = providers_are_known()
    assert (error.id, error.msg) == ("workers.E001", "PROVIDERS: there is no key for openai")


def test_every_provider_that_can_be_named_exists_and_has_that_name() -> None:
    options = {"clipart": CLIPART, "google": GOOGLE, "openai": OPENAI, "stability": STABILITY}
    registry = Registry(list(PROVIDER_CLASSES), options)
    assert [registry.choose(name).name for name in PROVIDER_CLASSES] == list(PROVIDER_CLASSES)


def grpc_without_sdk(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stability_sdk", None)
    settings.PROVIDERS, settings.STABILITY_TRANSPORT = ["clipart", "stability"], "grpc"


def test_a_transport_that_is_not_installed_is_found_by_the_system_check(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpc_without_sdk(settings, monkeypatch)
    [error] = transports_are_installed()
    assert error.id == "workers.E002"
    assert "stability-sdk" in error.msg
    assert "STABILITY_TRANSPORT=rest" in str(error.hint)


@pytest.mark.parametrize(("setting", "value"), [("PROVIDERS", ["clipart"]), ("STABILITY_TRANSPORT", "rest")])
def test_an_unused_transport_may_be_missing(
    settings: Any, monkeypatch: pytest.MonkeyPatch, setting: str, value: object
) -> None:
    grpc_without_sdk(settings, monkeypatch)
    setattr(settings, setting, value)
    assert transports_are_installed() == []
