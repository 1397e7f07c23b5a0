from django.apps import AppConfig
from django.contrib.admin import apps

from generation.db import names, queries


class GenerationConfig(AppConfig):
    name = "generation"
    default = True

    def ready(self) -> None:
        """Compare the names in the SQL statements with the models. Raises ``ImproperlyConfigured``."""
        names.check(queries.ALL, list(self.get_models()))


class StaffConfig(apps.AdminConfig):
    """Django's admin with our site."""

    default_site = "generation.admin_site.StaffSite"
    default = False
