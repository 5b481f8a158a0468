"""What tests of Cardoon programs and drivers need; ships with the package.

    capture                         look at what is sent, instead of sending it
    Simulation                      client, broker, worker and schedules by a clock of their own
    FakeClock                       time that moves when it is told to
    cardoon.testing.brokers         what every Broker driver must do; subclass `BrokerSuite`
    cardoon.testing.backends        what every ResultBackend driver must do; `BackendSuite`
    cardoon.testing.model           a driver against a model, at random; `BrokerMachine`

The suites need pytest and the model hypothesis (`pip install cardoon[test]`); this module neither.
Fixtures for pytest are in `cardoon.contrib.pytest`, a worker in a thread in `cardoon.contrib.testing`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cardoon.testing.clock import FakeClock

if TYPE_CHECKING:
    from cardoon.testing.capturing import Sent, SentTask, capture
    from cardoon.testing.simulation import Simulation, SimulationError

__all__ = ["FakeClock", "Sent", "SentTask", "Simulation", "SimulationError", "capture"]

_HOMES = {
    "Sent": "cardoon.testing.capturing",
    "SentTask": "cardoon.testing.capturing",
    "Simulation": "cardoon.testing.simulation",
    "SimulationError": "cardoon.testing.simulation",
    "capture": "cardoon.testing.capturing",
}
"""Loaded when they are first used: the clock alone needs neither app nor worker."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cardoon.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
