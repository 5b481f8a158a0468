"""SPIFFE: what a helper writes is all that clients and workers need, hour after hour."""

from __future__ import annotations

import json

import pytest

from cardoon.config import Conf
from cardoon.deployment import Deployment
from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, encode_body
from cardoon.security.signing import Draft
from tests.security.spiffe import HOUR, Helper, Server

HALF = HOUR / 2


class Workload:
    """A process with a helper beside it."""

    def __init__(self, folder, clock, role, server):
        self.path, self.server = role, server
        self.at = 0.0
        self.helper = Helper(folder / role)
        self.renew()
        conf = Conf({})
        conf.update(self.helper.settings(state_directory=str(folder / f"{role} state")))
        self.deployment = Deployment(conf.settings(), clock=clock, role=role)
        self.signer = self.deployment.make_signer("auth")
        self.gate = self.deployment.make_gate(("auth",))

    def renew(self, *, at=0.0, bundle=None):
        self.helper.write(self.server, self.server.issue(self.path, at=at), bundle=bundle)

    def sign(self, count=1, **changes):
        body = encode_body([[], {}, {}], JSON)
        draft = Draft(Kind.TASK, "shop.pay", "t1", ("q:celery",), JSON, body, retries=0)
        drafts = [draft._replace(id=f"t{number}", **changes) for number in range(count)]
        return [signed.frame for signed in self.signer.sign(drafts)]

    def open(self, frame):
        return self.gate.open(frame, kind=Kind.TASK)

    def events(self):
        path = self.deployment.state_directory / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["event"] for line in lines]


@pytest.fixture
def pair(tmp_path, clock):
    server = Server()
    made = [Workload(tmp_path, clock, role, server) for role in ("client", "worker")]
    yield made
    for one in made:
        one.deployment.audit().close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_worker_with_the_bundle_alone_verifies_a_client_by_its_chain(pair, count):
    client, worker = pair

    for frame in client.sign(count):
        message = worker.open(frame)
        assert message.signer.name == "spiffe://acme.example/client"


def test_certificates_of_an_hour_are_renewed_for_a_day(pair, clock):
    client, worker = pair
    seen = set()

    for half_hour in range(1, 49):
        clock.advance(HALF)
        for one in pair:
            one.renew(at=half_hour * HALF)
        clock.advance(5)
        seen.add(worker.open(client.sign()[0]).signer.fingerprint)
        assert client.open(worker.sign()[0]).signer.name == "spiffe://acme.example/worker"

    assert len(seen) == 48
    for one in pair:
        assert one.events().count("identity.reloaded") == 48
        assert set(one.events()) == {"identity.reloaded", "trust.reloaded"}


def test_an_authority_is_replaced_while_both_are_in_the_bundle(pair, clock):
    client, worker = pair
    old, new = client.server, Server("next root")
    clock.advance(60)
    for one in pair:
        one.helper.write_bundle(old, new)
    clock.advance(5)
    client.server = new
    client.renew(bundle=[old, new])
    clock.advance(5)

    assert worker.open(client.sign()[0]).signer.name == "spiffe://acme.example/client"
    assert client.open(worker.sign()[0]).signer.name == "spiffe://acme.example/worker"

    client.helper.write_bundle(new)
    clock.advance(5)
    with pytest.raises(RefusedError) as refused:
        client.open(worker.sign()[0])
    assert refused.value.reason is Refusal.UNKNOWN_SIGNER


def test_what_was_sent_dies_with_the_certificate_that_signed_it(pair, clock):
    client, worker = pair
    [frame] = client.sign()
    clock.advance(HOUR + 61)
    for one in pair:
        one.renew(at=HOUR)
    clock.advance(5)

    with pytest.raises(RefusedError) as refused:
        worker.open(frame)

    assert refused.value.reason is Refusal.CERTIFICATE_EXPIRED
    with pytest.raises(SecurityError, match="eta is behind the end of our certificate"):
        client.sign(eta=int((clock.now() + 2 * HOUR) * 1000))


def test_without_the_chain_a_worker_with_the_bundle_alone_knows_nobody(tmp_path, clock, pair):
    client, worker = pair
    conf = Conf({})
    settings = client.helper.settings(security_send_chain=False)
    conf.update({**settings, "state_directory": str(tmp_path / "other")})
    client.signer = Deployment(conf.settings(), clock=clock).make_signer("auth")

    with pytest.raises(RefusedError) as refused:
        worker.open(client.sign()[0])

    assert refused.value.reason is Refusal.UNKNOWN_SIGNER
