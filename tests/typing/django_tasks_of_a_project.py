"""How a type checker sees the tasks of a Django project; mypy reads it, nothing runs it."""

from __future__ import annotations

from typing import assert_type

from cardoon import AsyncResult
from cardoon.contrib.django import DjangoTask, shared_task


@shared_task
def mail(number: int, *, loud: bool = False) -> str:
    """Known by its function."""
    return str(number)


@shared_task(bind=True, max_retries=5)
def convert(self: DjangoTask[..., int], page: int) -> int:
    """Callers do not give the task."""
    return page


mail.delay_on_commit(1, loud=True)
mail.delay_on_commit("1")  # type: ignore[arg-type]
mail.apply_async_on_commit((1,), using="other", countdown=5)
convert.delay_on_commit(3)
assert_type(mail.delay(1), AsyncResult[str])
assert_type(convert.delay(1), AsyncResult[int])
