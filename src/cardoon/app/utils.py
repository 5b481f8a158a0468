"""`celery.app.utils`, as far as there is anything to it here."""

from cardoon.app import bugreport
from cardoon.config import Conf as Settings

__all__ = ["Settings", "bugreport"]
