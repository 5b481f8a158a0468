"""On a deployment as the documentation has it, the doctor finds nothing: real servers, real hosts, an ordinary user."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from cardoon.cli.codes import Exit
from tests.doctor.hardened import deployed, postgresql, rabbitmq, redis
from tests.e2e.sites import wait_until

OF_THE_MACHINE = {
    "BRK-11": "the distribution's server, and its repairs",
    "COD-05": "what is installed beside us for tests",
    "CTL-05": "its clock",
    "PRC-05": "its kernel",
    "PRC-08": "its swap",
    "PRC-11": "its kernel",
    "PRC-13": "its kernel",
    "PRC-14": "its kernel",
    "PRC-17": "its kernel",
}
"""What no deployment on it can mend. Where the doctor finds it, an operator signs a waiver with a reason; so does the test."""
PROVEN = {
    *("BRK-01", "BRK-02", "BRK-04", "BRK-05", "BRK-06", "BRK-07", "BRK-08", "BRK-12"),
    *("MSG-01", "MSG-02", "MSG-04", "MSG-08", "MSG-12", "KEY-01", "KEY-02", "KEY-10"),
    *("COD-01", "COD-03", "COD-04", "COD-09", "PRC-01", "PRC-02", "PRC-03", "PRC-04"),
    *("PRC-07", "PRC-09", "PRC-10", "NET-01", "NET-02", "NET-03", "NET-04", "NET-06"),
    *("LOG-01", "LOG-02", "LOG-03", "LOG-04", "LOG-07", "LOG-08", "CTL-01", "CTL-02"),
}
OF_THE_BROKER = {
    redis: {"RED-01", "RED-02", "RED-03", "RED-04", "RED-05"},
    postgresql: {"PG-01", "PG-02", "PG-03", "PG-04"},
    rabbitmq: {"RMQ-02", "RMQ-03"},
}


@pytest.fixture(params=OF_THE_BROKER, ids=lambda serve: serve.__name__)
def deployment(request):
    with deployed(request.param) as made:
        made.proven = PROVEN | OF_THE_BROKER[request.param]
        yield made


def amiss(checks):
    """What is open above info, or nobody could find out, with what was seen."""
    return {
        name: one["evidence"]
        for name, one in checks.items()
        if one["state"] in {"finding", "unchecked"} and one["severity"] != "info"
    }


def test_nothing_is_found_but_what_is_the_machines_and_waived(deployment):
    _, before = deployment.doctor()
    found = amiss(before)
    assert found.keys() <= OF_THE_MACHINE.keys(), found

    until = f"{dt.datetime.now(dt.UTC) + dt.timedelta(days=2):%Y-%m-%d}"
    for one in found:
        words = ("--skip", one, "--until", until, "--reason", OF_THE_MACHINE[one])
        deployment.cardoon("doctor", "--only", one, *words)
    code, checks = deployment.doctor()

    assert amiss(checks) == {}
    assert code == Exit.OK
    assert {name for name, one in checks.items() if one["state"] == "waived"} == found.keys()
    assert {name for name in deployment.proven if checks[name]["state"] != "ok"} == set()

    # The same deployment, once somebody has touched it.
    deployment.work.run("nft", "flush", "ruleset")
    wait_until(lambda: json.loads(deployment.rules.read_text())["verdict"] == "absent")
    waivers = deployment.state / "waivers.json"
    waivers.write_text(waivers.read_text().replace(until, "2027-06-30"))
    code, checks = deployment.doctor()

    assert code == Exit.CRITICAL
    assert {"NET-01", "NET-02", "CFG-07", *found} <= amiss(checks).keys()
