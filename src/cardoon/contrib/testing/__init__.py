"""Apps and workers for tests, under Celery's names; `cardoon.contrib.pytest` makes fixtures of them."""
