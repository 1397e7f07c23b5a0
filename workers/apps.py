import logging

from django.apps import AppConfig
from django.conf import settings

logger = logging.getLogger(__name__)


class WorkersConfig(AppConfig):
    name = "workers"

    def ready(self) -> None:
        from workers import checks  # noqa: F401  registers the system checks

        for name, suggestion in settings.MISSPELT_NAMES.items():
            logger.warning("%s is not a known setting; did you mean %s?", name, suggestion)
