"""Tasks as `django.tasks` has them; at module level, as it wants them."""

from __future__ import annotations

import asyncio

try:
    from django.tasks import task
except ModuleNotFoundError:
    from django_tasks import task

SEEN: list[object] = []


@task
def add(left, right):
    SEEN.append((left, right))
    return left + right


@task
async def aadd(left, right):
    await asyncio.sleep(0)
    return left + right


@task(takes_context=True)
def look(context, number):
    SEEN.append(context)
    return {"id": context.task_result.id, "attempt": context.attempt, "number": number}


@task(priority=50, queue_name="mail")
def mail(name):
    SEEN.append(name)


@task
def fail(why):
    raise ValueError(why)


@task
def answer_oddly():
    return object()
