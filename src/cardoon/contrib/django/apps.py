"""The Django app: it has the outbox's table and the command that empties it."""

from __future__ import annotations

from django.apps import AppConfig


class CardoonConfig(AppConfig):
    """What `INSTALLED_APPS = [..., "cardoon.contrib.django"]` names."""

    name = "cardoon.contrib.django"
    label = "cardoon"
    verbose_name = "Cardoon"
    default_auto_field = "django.db.models.BigAutoField"
