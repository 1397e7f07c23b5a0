from django.apps import AppConfig
from django.contrib.admin import apps


class GenerationConfig(AppConfig):
    name = "generation"
    default = True


class StaffConfig(apps.AdminConfig):
    """Django's admin with our site."""

    default_site = "generation.staffsite.StaffSite"
    default = False
