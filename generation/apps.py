from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class GenerationConfig(AppConfig):
    name = "generation"
    default = True


class StaffConfig(AdminConfig):
    """Django's admin with our site."""

    default_site = "generation.admin.site.StaffSite"
    default = False
