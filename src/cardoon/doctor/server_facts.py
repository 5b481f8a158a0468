"""What a server of messages or results answered to a few harmless questions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """One server. What nobody found out is None."""

    kind: str
    """As in `endpoints.Endpoint.kind`."""
    place: str
    """For people."""
    is_local: bool = False
    error: str = ""
    """Why it did not answer; empty if it did."""
    plaintext: bool | None = None
    """Whether it talks without TLS."""
    open_to_all: bool | None = None
    """Whether it obeys somebody without a password."""
    guest: bool | None = None
    """Whether it takes the account that everybody knows."""
    certificate: bytes = field(default=b"", repr=False)
    """What it showed, in DER."""
    old_tls: bool | None = None
    """Whether it agrees to TLS 1.1."""
    demands_certificate: bool | None = None
    """Whether it lets nobody in who shows no certificate of a client."""
    method: str = ""
    """How PostgreSQL asks for a password."""
    version: str = ""
    product: str = ""
    login_error: str = ""
    """Why our own account could not be tried; empty if it was."""
    user: str = ""
    may: tuple[str, ...] = ()
    """What our account may do and should not."""
    reaches: tuple[str, ...] = ()
    """What it may touch that is not Cardoon's."""
    eviction: str = ""
    """Redis: its `maxmemory-policy`."""
    persistent: bool | None = None
    """Redis: whether it writes an append-only file."""
    attributes: tuple[str, ...] | None = ()
    """PostgreSQL: of the role; RabbitMQ: tags of the user."""
    manageable: bool = True
    """RabbitMQ: whether its management may be there for us; not where nothing answers at its port."""
    session_tls: bool | None = None
    """PostgreSQL: what pg_stat_ssl says of our session."""
    creates_in_public: bool | None = None
    password_encryption: str = ""
