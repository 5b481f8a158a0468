"""Apps for tests: signed messages, a broker in memory, an identity that is thrown away."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from cardoon.app import Cardoon, current_application_kept
from cardoon.clock import SystemClock
from cardoon.security.authority import ensure_identity

DEFAULT_TEST_CONFIG: Mapping[str, Any] = {
    "broker_url": "memory://",
    "worker_pool": "solo",
    "worker_hijack_root_logger": False,
    "timezone": "UTC",
}
"""Results share the broker's store; everything else is as in production, signatures included."""


class Trap:
    """In the place of the current app: refuses whatever is asked of it.

    So that a test notices code that falls back on the current app instead of using the one it is given.
    """

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"Test depends on current_app: {name!r} was asked of it; hand the app over, or let "
            "use_cardoon_app_trap be False"
        )


def TestApp(  # noqa: N802  # Celery's name
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,  # noqa: ARG001, FBT001, FBT002  # Celery's; pytest captures logs anyhow
    set_as_current: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
    backend: str | None = None,
    broker: str | None = None,
    **kwargs: Any,
) -> Cardoon:
    """An app for tests. `config` holds settings, `kwargs` further arguments of `Cardoon`.

    Its state directory, where its identity is made, is temporary unless `config` names one.
    """
    settings = {**DEFAULT_TEST_CONFIG, **(config or {})}
    if broker is not None:
        settings["broker_url"] = broker
    if backend is not None:
        settings["result_backend"] = backend
    own = None if "state_directory" in {**settings, **kwargs} else tempfile.mkdtemp("", "cardoon-")
    if own is not None:
        settings["state_directory"] = own
        make_identities(own)
    app = Cardoon(name or "cardoon.tests", set_as_current=set_as_current, **{**settings, **kwargs})
    if own is not None:
        weakref.finalize(app, shutil.rmtree, own, ignore_errors=True)
    return app


def make_identities(folder: str) -> None:
    """Make the identities of both sides at once, so that neither has to look for the other's later."""
    for role in ("client", "worker"):
        ensure_identity(folder, role, clock=SystemClock())


TestApp.__test__ = False  # type: ignore[attr-defined]  # for pytest


@contextmanager
def setup_default_app(
    app: Cardoon,
    use_trap: bool = False,  # noqa: FBT001, FBT002  # Celery's signature
) -> Iterator[None]:
    """Let go of the app at the end, and have whichever was current before be so again.

    With `use_trap` there is no current app meanwhile, and code that asks for it fails.
    """
    with current_application_kept(Trap() if use_trap else None), app:
        yield
