"""Who has expired sends nothing, and is told so at once: nobody would act on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.exceptions import SecurityError
from cardoon.security.authority import ensure_identity
from cardoon.testing import FakeClock


def send(folder, **options):
    app = Cardoon("shop", set_as_current=False, state_directory=str(folder))
    try:
        return app.send_task("shop.pay", (1,), **options)
    finally:
        app.close()


def test_an_expired_certificate_sends_nothing(tmp_path):
    ensure_identity(tmp_path / "state", "client", clock=FakeClock(), lifetime=3600)  # in 2023

    with pytest.raises(SecurityError, match="the certificate has expired; issue a new one"):
        send(tmp_path / "state")


def test_a_task_that_would_be_due_after_the_certificate_ends_is_not_sent(tmp_path):
    ensure_identity(tmp_path / "state", "client", clock=SystemClock(), lifetime=3600)

    assert send(tmp_path / "state", countdown=1800).id
    for late in ({"countdown": 7200}, {"eta": datetime.now(UTC) + timedelta(hours=2)}):
        with pytest.raises(SecurityError, match="eta is behind the end of our certificate"):
            send(tmp_path / "state", **late)
