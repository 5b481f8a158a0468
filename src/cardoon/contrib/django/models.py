"""The outbox's table."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone


class OutboxMessage(models.Model):
    """What one call of `delay` and its like sent within `atomic_send`: signed, and not yet published.

    One message, or all those of a canvas, which are published together or not at all.
    """

    app = models.CharField(max_length=255, blank=True)
    """The name of the Cardoon app, whose broker it is for."""
    tasks = models.CharField(max_length=255)
    """What it calls, for people who look into the table."""
    written_at = models.DateTimeField(default=timezone.now)
    messages = models.BinaryField()
    """See `packing`."""

    class Meta:
        """Found by the app; a relay reads in the order of writing."""

        app_label = "cardoon"
        indexes: ClassVar = [models.Index(fields=["app", "id"], name="cardoon_outbox_app")]

    def __str__(self) -> str:
        return f"{self.tasks} ({self.written_at:%Y-%m-%d %H:%M:%S})"
