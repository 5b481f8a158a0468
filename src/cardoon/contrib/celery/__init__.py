"""Side by side with Celery: its messages in, for workers here, and calls out, to workers there.

`Bridge` is what `cardoon bridge` runs; `CeleryTasks` calls tasks that still run in Celery's workers. Both need
`pip install 'cardoon[celery]'`, and the real Celery: not the stand-in of `cardoon.compat.celery`.
"""

from cardoon.contrib.celery.bridge import Bridge, Counts
from cardoon.contrib.celery.client import CeleryResult, CeleryTasks
from cardoon.contrib.celery.fence import Fence

__all__ = ["Bridge", "CeleryResult", "CeleryTasks", "Counts", "Fence"]
