"""What tests of Cardoon programs and drivers need; ships with the package.

    FakeClock                       time that moves when it is told to
    cardoon.testing.brokers         what every Broker driver must do; subclass `BrokerSuite`
    cardoon.testing.backends        what every ResultBackend driver must do; `BackendSuite`
    cardoon.testing.model           a driver against a model, at random; `BrokerMachine`

The suites need pytest and the model hypothesis (`pip install cardoon[test]`); this module neither.
"""

from __future__ import annotations

from cardoon.testing.clock import FakeClock

__all__ = ["FakeClock"]
