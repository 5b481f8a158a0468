"""Who takes part: the honest, the stranger, and those whom a key was entrusted that they abuse."""

from __future__ import annotations

from pathlib import Path

from attacks.makers import NAME, Person, load_person, make_person

LAW = f"""
version = 1
[role.client]
ids = ["spiffe://{NAME}/client"]
[role.worker]
ids = ["spiffe://{NAME}/worker"]
[role.insider]
ids = ["spiffe://{NAME}/insider"]
[role.accountant]
ids = ["spiffe://{NAME}/accountant"]
[role.revoked]
ids = ["spiffe://{NAME}/revoked"]

[[allow]]
role = ["client", "revoked"]
action = "send"
task = "canary.*"
[[allow]]
role = "client"
action = "control"
command = ["revoke", "revoke_by_stamped_headers"]
[[allow]]
role = "worker"
action = "result"
[[allow]]
role = "insider"
action = "send"
task = ["canary.note", "canary.slow"]
queue = ["celery"]
max_body = "512KiB"
max_eta = "1h"
[[allow]]
role = "accountant"
action = "result"
task = "accounts.*"
"""
"""The policy: what the client may, what the insider may, and that the accountant may answer for others only."""


class People:
    """Keys by who has them."""

    def __init__(self, state: Path) -> None:
        self.authority = load_person(state, "ca")
        self.client = load_person(state, "client")
        """Whose key is used only to make certificates look like its owner's, and what is replayed."""
        self.worker = load_person(state, "worker")
        """Whose key is used to say what no honest worker says."""
        self.insider = load_person(state, "insider")
        """May send two tasks, and nothing else."""
        self.accountant = load_person(state, "accountant")
        """May give results of tasks that are not here."""
        self.revoked = load_person(state, "revoked")
        """Might do all that the client may, and is revoked."""
        self.stranger: Person = make_person("mallory")
        """Has a key that nobody vouches for."""
