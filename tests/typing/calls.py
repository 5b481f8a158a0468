"""Read by `make check`, never run: what a type checker knows of tasks and results."""

from __future__ import annotations

from typing import Any, assert_type

from cardoon import AsyncResult, Cardoon, Task, shared_task

app = Cardoon("typed")


@app.task
def add(x: int, y: int = 1) -> int:
    return x + y


@app.task(name="other", max_retries=5)
def named(x: int) -> str:
    return str(x)


@app.task(bind=True, max_retries=5)
def bound(self: Task[..., Any], x: int) -> str:
    return f"{self.name} {x}"


@app.task
async def fetch(url: str) -> bytes:
    return url.encode()


@app.task(soft_time_limit=3)
async def fetch_soon(url: str) -> bytes:
    return await fetch(url)


@app.task(bind=True)
async def fetch_bound(self: Task[..., Any], url: str) -> bytes:
    return await fetch_soon(url)


@shared_task
def shared(x: int) -> list[int]:
    return [x]


@shared_task(name="lib.fetch")
async def shared_fetch(url: str) -> bytes:
    return url.encode()


assert_type(add.delay(1, y=2), AsyncResult[int])
assert_type(add.delay(1).get(timeout=3), int)
assert_type(add(1), int)
assert_type(named.apply_async((1,), countdown=3).get(), str)
assert_type(bound.delay(3), AsyncResult[str])
assert_type(bound.send_many([(1,), (2,)]), list[AsyncResult[str]])
assert_type(fetch.delay("x"), AsyncResult[bytes])
assert_type(fetch_soon.delay("x"), AsyncResult[bytes])
assert_type(fetch_bound.delay("x"), AsyncResult[bytes])
assert_type(shared.delay(1).get(), list[int])
assert_type(shared_fetch.delay("x").get(), bytes)


async def awaited() -> None:
    assert_type(await add.delay(1), int)
    assert_type(await fetch.adelay("x"), AsyncResult[bytes])
    assert_type(await (await fetch.adelay("x")), bytes)
    assert_type(await fetch("x"), bytes)


add.delay("1")  # type: ignore[arg-type]
add.delay()  # type: ignore[call-arg]
bound.delay(3, z=4)  # type: ignore[call-arg]
fetch_soon.delay(3)  # type: ignore[arg-type]
