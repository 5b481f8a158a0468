"""Counts tasks, by Celery's signals."""

import os

from celery.signals import task_postrun, worker_process_init


@worker_process_init.connect
def begin(**kwargs):
    os.environ["SHOP_BEGUN"] = "yes"


@task_postrun.connect
def count(sender=None, task_id=None, state=None, **kwargs):
    with open("hooks.log", "a") as file:
        file.write(f"{sender.name} {state} {os.environ['SHOP_BEGUN']}\n")
