"""What the shop keeps."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Order(models.Model):
    """Something that somebody has bought."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    item = models.CharField(max_length=100)
    cents = models.PositiveIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)
    receipt_task = models.CharField(max_length=128, db_index=True)
    """The task that writes the receipt."""

    def __str__(self) -> str:
        return f"order {self.pk}: {self.item}"


class Receipt(models.Model):
    """What the customer gets for it: one for each order, however often it is written."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    text = models.TextField()

    def __str__(self) -> str:
        return f"receipt of {self.order}"
