"""What the browser asks for."""

from __future__ import annotations

import uuid

from django import forms
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from cardoon.contrib.django import atomic_send
from orders.models import Order
from orders.tasks import mail_receipt, write_receipt


class OrderForm(forms.ModelForm):
    """What a customer says of an order."""

    class Meta:
        model = Order
        fields = ("item", "cents")


@login_required
@require_http_methods(["GET", "POST"])
def orders(request: HttpRequest) -> HttpResponse:
    """The customer's orders, and a form for another one."""
    form = OrderForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        place(form.save(commit=False), request)
        return redirect("orders")
    found = Order.objects.filter(customer=request.user).select_related("receipt").order_by("-pk")
    return render(request, "orders/orders.html", {"form": form, "orders": found})


@atomic_send
def place(order: Order, request: HttpRequest) -> None:
    """Store the order and send its receipt's tasks: both, or neither."""
    order.customer = request.user
    order.receipt_task = str(uuid.uuid4())
    order.save()
    (write_receipt.s(order.pk) | mail_receipt.s().set(task_id=order.receipt_task)).delay()


def is_own_order(request: HttpRequest, task_id: str) -> bool:
    """Whether it is the receipt of an order of whoever asks."""
    if not request.user.is_authenticated:
        return False
    return bool(Order.objects.filter(customer=request.user, receipt_task=task_id).exists())
