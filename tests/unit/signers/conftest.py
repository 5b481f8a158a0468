"""An agent behind a socket, in a thread of its own, and clients that ask it."""

from __future__ import annotations

import os
import threading

import pytest

from cardoon.clock import SystemClock
from cardoon.security.identity import load_identity
from cardoon.security.renewal import OwnIdentity
from cardoon.security.signing import MessageSigner
from cardoon.signers.agent import Agent
from cardoon.signers.client import SignerClient, load_identity_from
from cardoon.signers.place import find_place
from cardoon.signers.server import Server
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN
from tests.security.spiffe import HOUR, Helper
from tests.security.spiffe import Server as Authority

PATIENCE = 20.0


class Post:
    """A folder with a key that the agent may read, and where the agent listens."""

    def __init__(self, folder):
        self.folder = folder
        folder.chmod(0o700)
        self.clock = FakeClock()  # of certificates
        self.authority = Authority()
        self.helper = Helper(folder / "svid")
        self.renew()
        self.path = folder / "signer.sock"
        self.refused = []
        self.clients = []
        self.server = self.thread = None

    def renew(self, *, at=0.0):
        self.svid = self.authority.issue("worker", at=at, lasts=10 * HOUR)
        self.helper.write(self.authority, self.svid)

    def load(self):
        return load_identity(self.helper.key, self.helper.certificate)

    def agent(self, *, domain=DOMAIN):
        own = OwnIdentity(
            self.load,
            (self.helper.key, self.helper.certificate),
            clock=self.clock,
            on_event=lambda *_: None,
        )
        return Agent(own, domain=domain, clock=self.clock)

    def start(self, *, users=None, **options):
        self.made = self.agent(**options)
        self.server = Server(
            self.path,
            self.made.answer,
            users=[os.geteuid()] if users is None else users,
            on_refusal=self.refused.append,
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.thread.join(PATIENCE)
            self.server = None

    def client(self, place=None):
        client = SignerClient(find_place(place or f"unix:{self.path}"), clock=SystemClock())
        self.clients.append(client)
        return client

    def identity(self, client=None, *, domain=DOMAIN):
        return load_identity_from(
            client or self.client(), self.helper.certificate, domain=domain, digest="sha256"
        )

    def signer(self, client=None):
        private = self.identity(client)
        return MessageSigner(private, domain=DOMAIN, clock=self.clock, send_chain=True)

    def signer_here(self):
        return MessageSigner(self.load(), domain=DOMAIN, clock=self.clock)

    def close(self):
        for client in self.clients:
            client.close()
        self.stop()


@pytest.fixture
def post(tmp_path):
    made = Post(tmp_path)
    yield made
    made.close()
