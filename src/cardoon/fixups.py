"""Fixups: what a framework around the project changes about an app, by itself."""

from __future__ import annotations

import os
import warnings

from cardoon.exceptions import FixupWarning
from cardoon.loader import is_importable, load_symbol

DJANGO_VARIABLE = "DJANGO_SETTINGS_MODULE"
"""By which Django and its users say that a process belongs to a project of theirs."""
_DJANGO = "cardoon.contrib.django.fixup:install"


def fix_up(app: object) -> None:
    """Adapt a new app to Django where this is a process of a Django project.

    That is one where `DJANGO_SETTINGS_MODULE` is set. Without Django, a `FixupWarning`.
    """
    project = os.environ.get(DJANGO_VARIABLE)
    if not project:
        return
    if not is_importable("django"):
        warnings.warn(
            f"{DJANGO_VARIABLE} is {project!r}, and Django is not installed, so the app is not adapted "
            "to it; pip install cardoon[django], or unset the variable",
            FixupWarning,
            stacklevel=3,
        )
        return
    load_symbol(_DJANGO)(app)
