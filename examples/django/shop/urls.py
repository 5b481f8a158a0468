"""The shop's pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from cardoon.contrib.django import result_urls
from orders import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("results/", include(result_urls(authorize=views.is_own_order, max_wait=10))),
    path("admin/", admin.site.urls),
]
