# Settings as Celery 3 named them, which many projects never changed.
import os

BROKER_URL = os.environ.get("SHOP_BROKER", "sqlite:///shop.db")
CELERY_RESULT_BACKEND = BROKER_URL

CELERY_INCLUDE = [  # every module with tasks
    "shop.tasks",
    "shop.flows",
]
CELERY_TIMEZONE = "Europe/Vienna"
ENABLE_UTC = True

CELERYD_CONCURRENCY    =    2  # the layout stays
CELERYD_MAX_TASKS_PER_CHILD = 100
CELERY_TASK_RESULT_EXPIRES = 60 * 60
CELERY_TRACK_STARTED = True
CELERY_ACKS_LATE = True
CELERYD_POOL_PUTLOCKS = True
