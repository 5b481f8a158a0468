"""The queue. But for the import, these are the lines of every Celery project."""

from __future__ import annotations

import os

from cardoon import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
