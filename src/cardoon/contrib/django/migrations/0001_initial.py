"""The outbox's table."""

from __future__ import annotations

from typing import ClassVar

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    initial = True
    dependencies: ClassVar = []
    operations: ClassVar = [
        migrations.CreateModel(
            name="OutboxMessage",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("app", models.CharField(blank=True, max_length=255)),
                ("tasks", models.CharField(max_length=255)),
                ("written_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("messages", models.BinaryField()),
            ],
            options={
                "indexes": [models.Index(fields=["app", "id"], name="cardoon_outbox_app")],
            },
        ),
    ]
