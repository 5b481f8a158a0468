"""Whose request the policy denies is told so, wherever results are kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from cardoon import chord, states
from cardoon.exceptions import ChordError, TaskDeniedError
from tests.e2e.conftest import DEADLINE, Site
from tests.e2e.test_postgres import PostgresSite, postgres
from tests.e2e.test_rabbitmq import IN_FILE, environment, rabbit_site, results_at
from tests.e2e.test_redis import redis_site, server

__all__ = ["postgres", "rabbit_site", "redis_site", "results_at", "server"]

POLICY = """
version = 1
[role.client]
ids = ["spiffe://cardoon.local/client", "subject:CN=client"]
[role.worker]
ids = ["spiffe://cardoon.local/worker", "subject:CN=worker"]

[[allow]]
role = "worker"
action = "result"
[[allow]]
role = "client"
action = "send"
task = ["work.add", "work.describe"]
"""


def on_sqlite(request) -> Site:
    return request.getfixturevalue("site")


def on_redis(request) -> Site:
    return request.getfixturevalue("redis_site")


def on_postgres(request) -> Site:
    site = PostgresSite(
        request.getfixturevalue("tmp_path"), request.getfixturevalue("postgres").empty()
    )
    request.addfinalizer(site.stop)
    return site


def on_rabbitmq(request) -> Site:
    return request.getfixturevalue("rabbit_site")


@pytest.fixture
def ruled(request, kind, results_at) -> tuple[Site, dict[str, Any]]:
    """A project with a policy, and how its worker is to be started."""
    made = kind(request)
    policy = made.folder / "policy.toml"
    policy.write_text(POLICY)
    policy.chmod(0o600)
    made.app.conf.security_policy = str(policy)
    options: dict[str, Any] = {"env": {**getattr(made, "environment", {})}}
    if kind is on_rabbitmq:
        options = {"env": environment(made), "app": "rabbit"}
    options["env"]["CARDOON_SECURITY_POLICY"] = str(policy)
    return made, options


@pytest.mark.parametrize(
    ("kind", "results_at"),
    [
        pytest.param(on_sqlite, "", id="sqlite"),
        pytest.param(on_redis, "", id="redis"),
        pytest.param(on_postgres, "", id="postgresql"),
        pytest.param(on_rabbitmq, IN_FILE, id="rabbitmq and a file"),
        pytest.param(on_rabbitmq, "rpc://", id="rabbitmq and rpc"),
    ],
    indirect=["results_at"],
)
def test_who_sends_what_no_rule_allows_is_told(ruled):
    site, options = ruled
    site.start("-c", "1", **options)
    add, total, echo = (site.app.signature(f"work.{name}") for name in ("add", "describe", "echo"))

    denied, ignored = site.send("echo", "x"), site.send("echo", "y", ignore_result=True)
    gathered = chord([add.clone((1, 2)), echo.clone(("x",))], total).apply_async()

    for result in (denied, ignored):
        with pytest.raises(
            TaskDeniedError, match=r"no rule lets .*client send work\.echo on queue"
        ):
            result.get(timeout=DEADLINE)
        assert result.state == states.REJECTED
        assert result.failed() is False
    with pytest.raises(ChordError, match=f"{gathered.parent.results[1].id} raised TaskDeniedError"):
        gathered.get(timeout=DEADLINE)
    again = site.send("echo", "z")
    with contextlib.suppress(TaskDeniedError):
        asyncio.run(asyncio.wait_for(awaited(again), DEADLINE))
        pytest.fail("it was not told")
    assert site.call("add", 1, 2) == 3


async def awaited(result: Any) -> Any:
    return await result
