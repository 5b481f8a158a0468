"""What a task waited for, answered by somebody whom the policy does not let give results."""

from __future__ import annotations

import json

from cardoon.broker import Delivery, Input
from cardoon.exceptions import Refusal
from cardoon.message.protocol import Kind
from cardoon.security.gate import DeniedError
from cardoon.security.policyfile import parse_rules
from cardoon.testing import FakeClock
from cardoon.worker.opening import Opener
from tests.security.actors import digest_of, draft, make_gate, make_person, pin

ALICE, INSIDER = make_person("alice"), make_person("insider")
LAW = f"""
version = 1
[role.client]
ids = ["sha256:{ALICE.fingerprint.hex()}"]
[role.insider]
ids = ["sha256:{INSIDER.fingerprint.hex()}"]
[[allow]]
role = ["client", "insider"]
action = "send"
task = "**"
"""


def test_it_is_refused_as_denied_and_not_taken_for_a_wish_of_the_tasks_sender(tmp_path):
    clock = FakeClock()
    rules = parse_rules(LAW.encode(), source="law")
    gate = make_gate(pin(tmp_path, ALICE, INSIDER), clock, policy=rules)
    first, body = ALICE.signer(clock).sign([draft(1), draft(2, after=(0,))])
    told = json.dumps({"state": "SUCCESS"}).encode()
    lie = draft(1, kind=Kind.RESULT, request=digest_of(first.frame), headers=told)
    [forged] = INSIDER.signer(clock).sign([lie])
    inputs = (Input("task-1", first.request, forged.frame),)

    [found] = Opener(gate, ["celery"]).open_all(
        [Delivery("celery", "task-2", body.frame, 1, 1, inputs=inputs)]
    )

    assert (found.reason, type(found) is DeniedError) == (Refusal.DENIED, False)
    assert "result" in found.detail
