"""What each role may do on a RabbitMQ server, as the commands that grant it and nothing else."""

from __future__ import annotations

import re
import shlex
from typing import Literal, assert_never

Role = Literal["client", "worker", "beat", "monitor"]

_NOTHING = "^$"


def commands(role: Role, *, prefix: str = "cardoon", username: str, vhost: str = "/") -> list[str]:
    """The command lines for an administrator's shell, in order. The first one asks for a password.

    A client and beat may send and make queues, a worker may take as well, and a monitor may count. Each but
    the last may take results that are sent to it, and nobody else's. To send at all is to be allowed to
    write to any queue of the virtual host, so Cardoon's is best its own.
    """
    configure, write, read = _rights(role, re.escape(prefix), re.escape(username))
    account, host = shlex.quote(username), f"--vhost {shlex.quote(vhost)}"
    rights = " ".join(map(shlex.quote, (configure, write, read)))
    nothing = shlex.quote(_NOTHING)
    return [
        f"rabbitmqctl add_user {account}",
        f"rabbitmqctl set_permissions {host} {account} {rights}",
        f"rabbitmqctl set_topic_permissions {host} {account} amq.topic {nothing} {nothing}",
    ]


def _rights(role: Role, prefix: str, account: str) -> tuple[str, str, str]:
    """Patterns of the names that may be configured, written and read."""
    # Behind the account's name is a number, so that this is no queue of an account with a longer name.
    own = rf"^{prefix}\.reply\.{account}\.[0-9a-f]+$"
    shared = rf"^{prefix}\.(?!reply\.)|{own}"
    levels = rf"{prefix}\.levels"
    match role:
        case "client" | "beat":
            return shared, rf"^(amq\.default|{levels})$", own
        case "worker":
            return shared, rf"^(amq\.default$|{prefix}\.)", shared
        case "monitor":
            return rf"^{levels}(\.|$)", rf"^{levels}\.", rf"^{levels}(\.|$)"
        case _:
            assert_never(role)
