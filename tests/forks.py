"""A fork that a test forgot to end: it must not play on as a second copy of this process.

It would run the tests that are left, and tell xdist's master so over the descriptors that it shares with
its parent; the master then fails, or waits for ever.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Generator

import pytest

ESCAPED = 70
"""The status that such a process ends with."""


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """End what a test has forked, if it comes back from there."""
    return (yield from _alone(pyfuncitem.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object],
) -> Generator[None, object, object]:
    """The same of a fixture."""
    return (yield from _alone(f"fixture {fixturedef.argname}"))


def _alone(name: str) -> Generator[None, object, object]:
    ours = os.getpid()
    try:
        return (yield)
    except BaseException:
        if os.getpid() != ours:
            os.write(2, traceback.format_exc().encode())
        raise
    finally:
        if os.getpid() != ours:
            os.write(2, f"{name}: a fork of this test did not end itself by os._exit()\n".encode())
            os._exit(ESCAPED)
