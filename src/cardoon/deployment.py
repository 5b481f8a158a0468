"""Builds, from settings, what both composition roots need: identity, trust and stores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from cardoon import backends, brokers
from cardoon.audit import AuditLog, find_log, keeping_of
from cardoon.backend import ResultBackend
from cardoon.broker import Broker
from cardoon.certificates import find_revoked
from cardoon.clock import Clock
from cardoon.config import Conf, Settings, content_kind, find_state_directory, follow, reveal
from cardoon.contents import Accepted, accept, find_content
from cardoon.encrypting import Encrypting
from cardoon.endpoints import Access, kind_of
from cardoon.exceptions import ImproperlyConfigured, RefusedError, SecurityError
from cardoon.message.protocol import Kind
from cardoon.message.serializers import check_serializer
from cardoon.security.authority import ensure_identity
from cardoon.security.gate import SIGNED, Gate, Limits, VerifiedMessage
from cardoon.security.identity import PrivateIdentity, load_identity
from cardoon.security.keyset import WORKERS
from cardoon.security.policing import FilePolicy
from cardoon.security.policy import Action, AllowTrusted, Policy, Request
from cardoon.security.renewal import IdentityEvent, OwnIdentity, RenewingSigner
from cardoon.security.sealing import Seal
from cardoon.security.signing import MessageSigner, PlainSigner, Signer
from cardoon.security.trust import TrustStore
from cardoon.signers.client import RENEWAL_SECONDS, SignerClient, load_identity_from
from cardoon.signers.place import Place, find_place
from cardoon.signers.trial import TRIAL_SECONDS

logger = logging.getLogger(__name__)

EMBEDDED = frozenset({"sqlite", "memory"})
"""Brokers whose store only this project's user can reach; an identity may be made for them unasked."""

_COMPANIONS = frozenset({"redis", "sentinel", "postgresql"})
"""Servers that can stand beside a broker that keeps nothing but messages; embedded ones can, too."""

_ALIASES = {"sqla+sqlite": "sqlite", "db+sqlite": "sqlite", "cache+memory": "memory"}
"""Celery's names, by which one store must not be taken for two, or for one on a network."""


class TrustPaths(NamedTuple):
    """Where the certificates of those who are trusted lie."""

    pins: tuple[str, ...]
    anchors: tuple[str, ...] | dict[str, str]


class _Source(NamedTuple):
    """How our own identity is read, and which files that takes."""

    load: Callable[[], PrivateIdentity]
    paths: tuple[Path, ...]


class Way(NamedTuple):
    """How servers are reached, and what else is said to a driver."""

    access: Access
    transport: Mapping[str, Any]


class Deployment:
    """One app's settings, resolved for one process.

    `role` names the identity to use where the settings name none: `client` or `worker`.
    """

    def __init__(self, settings: Settings, *, clock: Clock, role: str = "client") -> None:
        self.settings = settings
        self.clock = clock
        self.role = role
        self.state_directory = find_state_directory(settings)
        self._own: OwnIdentity | None = None
        self._trust: TrustStore | None = None
        self._policy: Policy | None = None
        self._encrypting: Encrypting | None = None
        self._audit: AuditLog | None = None

    @property
    def broker_url(self) -> str:
        """The broker's URL, references followed; the project's own SQLite file where none is set."""
        return _plain(reveal(self.settings, "broker_url")) or self._own_file

    @property
    def backend_url(self) -> str:
        """The result backend's URL: the broker's own store where none is set and it can be."""
        url = _plain(reveal(self.settings, "result_backend"))
        if not url and self.embedded:
            return self.broker_url
        return url

    @property
    def store_url(self) -> str:
        """Where loans and what belongs to them end: the broker's URL, or that of its companion."""
        if kind_of(self.broker_url) != "amqp":
            return self.broker_url
        told = str(self.settings.broker_transport_options.get("store", ""))
        if told:
            # What is no secret setting goes to processes that run tasks.
            if urlsplit(told).password:
                raise ImproperlyConfigured(
                    "broker_transport_options: its store has a password; use env:NAME or file:PATH, or "
                    "set result_backend, which is kept secret"
                )
            return _plain(follow(told, name="broker_transport_options: store"))
        url = self.backend_url
        fits = _scheme(url) in EMBEDDED or kind_of(url) in _COMPANIONS
        return url if fits else self._own_file

    @property
    def _own_file(self) -> str:
        return f"sqlite:///{self.state_directory / 'cardoon.db'}"

    @property
    def embedded(self) -> bool:
        """Whether the broker lives in this project's own files or process."""
        return _scheme(self.broker_url) in EMBEDDED

    @property
    def signs(self) -> bool:
        """Whether any channel of this app is signed."""
        settings = self.settings
        names = (settings.task_serializer, settings.result_serializer, *settings.accept_content)
        return any(content_kind(name) == "auth" for name in names)

    def check_identity(self) -> None:
        """Load keys and certificates now; raises where they are missing or do not fit."""
        if self.signs:
            self.identity()
            self.trust()
            self.encrypting().check()

    def identity(self) -> PrivateIdentity:
        """Who this process is at this moment; its files are read again when they change."""
        return self._own_identity().current()

    def trust(self) -> TrustStore:
        """Who is trusted; one store for the life of the process, which reloads itself."""
        if self._trust is None:
            paths = self._trust_paths()
            revoked, may_lack = find_revoked(self.settings)
            self._trust = TrustStore(
                pins=paths.pins,
                anchors=paths.anchors,
                revoked=revoked,
                may_lack=may_lack,
                clock=self.clock,
                skew=self.settings.security_clock_skew,
                on_event=self._report_trust,
            )
        return self._trust

    def describe_trust(self) -> str:
        """Who is trusted, and with what, for people."""
        settings = self.settings
        if "auth" not in {content_kind(name) for name in settings.accept_content}:
            return "nobody needs to be trusted"
        told = f"policy {settings.security_policy}" if settings.security_policy else "no policy"
        sealed = self.encrypting().describe()
        return f"{self.trust().describe()}; {told}{'; ' if sealed else ''}{sealed}"

    def policy(self) -> Policy:
        """Who may do what; one for the life of the process, which reads its file again."""
        if self._policy is None:
            path = self.settings.security_policy
            self._policy = AllowTrusted()
            if path:
                self._policy = FilePolicy(
                    Path(path).expanduser(), clock=self.clock, on_event=self._report_policy
                )
        return self._policy

    def make_signer(self, serializer: str) -> Signer:
        """What signs messages sent with `task_serializer` or `result_serializer`."""
        settings = self.settings
        check_serializer(find_content(serializer).media_type)
        if content_kind(serializer) == "json":
            return PlainSigner(clock=self.clock, max_age=settings.security_max_age)
        return self._make_message_signer(self.encrypting().seal)

    def make_record_signer(self) -> Signer:
        """What signs keysets, which everybody reads, and which are made before anything can be sealed."""
        return self._make_message_signer(lambda: None)

    def encrypting(self) -> Encrypting:
        """To whom bodies are sealed, and what can be opened here; one for the life of the process."""
        if self._encrypting is None:
            settings = self.settings
            self._encrypting = Encrypting(
                settings,
                role=self.role,
                state_directory=self.state_directory,
                clock=self.clock,
                open_record=self.open_keyset,
                on_event=self._report_keyset,
            )
            is_ours = self.embedded and not settings.security_keyset
            if self._encrypting.seals and is_ours and not self._encrypting.has_keyset:
                self.check_may_sign_keyset(WORKERS)
                self._encrypting.make_keyset(self.make_record_signer())
        return self._encrypting

    def check_may_sign_keyset(self, name: str) -> None:
        """`SecurityError` if the policy lets nobody take a keyset from us: better none than that."""
        try:
            self.policy().check(Request(Action.KEYS, self.identity().identity, name, ""))
        except RefusedError as error:
            raise SecurityError(
                f"{error.detail}; have a rule of the policy allow the action 'keys', or have somebody make the "
                "keyset who may: `cardoon keys init --role NAME`"
            ) from error

    def open_keyset(self, frame: bytes, *, at_any_age: bool = False) -> VerifiedMessage:
        """Verify a keyset's record: by whom, for when, and whether its signer may say so."""
        settings = self.settings
        gate = Gate(
            domain=settings.security_domain,
            trust=self.trust(),
            accept=(SIGNED,),
            clock=self.clock,
            skew=settings.security_clock_skew,
            policy=self.policy(),
        )
        return gate.open(frame, kind=Kind.KEYSET, at_any_age=at_any_age)

    def _make_message_signer(self, seal: Callable[[], Seal | None]) -> Signer:
        settings = self.settings
        make = partial(
            MessageSigner,
            domain=settings.security_domain,
            clock=self.clock,
            max_age=settings.security_max_age,
            send_chain=settings.security_send_chain,
            seal=seal,
        )
        return RenewingSigner(self._own_identity(), make)

    def make_gate(self, accept_content: tuple[str, ...]) -> Gate:
        """The gate for messages of these contents, and for results as the settings take them."""
        settings = self.settings
        tasks = _accept(accept_content)
        results = _accept(settings.result_accept_content or accept_content)
        return Gate(
            domain=settings.security_domain,
            trust=self.trust() if tasks.signed or results.signed else None,
            accept=tasks,
            results=results,
            clock=self.clock,
            skew=settings.security_clock_skew,
            limits=Limits(max_body=settings.message_max_bytes),
            policy=self.policy(),
            unsealer=self.encrypting().unsealer,
            require_encryption=settings.security_require_encryption,
        )

    def result_gate(self) -> Gate:
        """The gate for results."""
        settings = self.settings
        return self.make_gate(settings.result_accept_content or settings.accept_content)

    def open_broker(self) -> Broker:
        """Connect to the broker."""
        url = self.broker_url
        if self.signs and not self.embedded:
            self.identity()  # a missing identity is the first thing to know
        way = self.way_to_broker()
        return brokers.connect(
            url,
            clock=self.clock,
            access=way.access,
            transport=way.transport,
            companion=self._open_companion(),
        )

    def open_backend(self, broker: Broker) -> ResultBackend | None:
        """Connect to the result backend; None where results are kept nowhere."""
        url = self.backend_url
        if not url or url.startswith("disabled:"):
            return None
        way = self.way_to_backend()
        return backends.connect(
            url,
            clock=self.clock,
            beside=broker,
            access=way.access,
            transport=way.transport,
        )

    def _open_companion(self) -> Broker | None:
        """The store beside a broker that needs one. It is reached as the same store's results are."""
        url = self.store_url
        if url == self.broker_url:
            return None
        if url == self._own_file:
            logger.warning(
                "RabbitMQ has no store beside it but this host's %s: what was carried out before, dead "
                "letters, workflows, broadcasts, and tasks that wait, are unique or limited, are known to "
                "this host only, and run here, and queues rest here; set result_backend, or store in "
                "broker_transport_options, to one "
                "that all hosts reach",
                self.state_directory / "cardoon.db",
            )
        way = self._way_to_store(url)
        return brokers.connect(url, clock=self.clock, access=way.access, transport=way.transport)

    def way_to_broker(self) -> Way:
        """How the broker's servers are reached."""
        settings = self.settings
        return self._way(settings.broker_use_ssl, settings.broker_transport_options)

    def way_to_backend(self) -> Way:
        """How the result backend's are."""
        return self._way_to_store(self.backend_url)

    def _way_to_store(self, url: str) -> Way:
        """As the broker's where both are one store, unless said otherwise."""
        settings = self.settings
        use_ssl = settings.redis_backend_use_ssl
        transport = settings.result_backend_transport_options
        if url == self.broker_url:
            use_ssl = settings.broker_use_ssl if use_ssl is None else use_ssl
            transport = transport or settings.broker_transport_options
        elif kind_of(url) not in {"redis", "sentinel"}:
            use_ssl = None
        return self._way(use_ssl, transport)

    def _way(
        self,
        use_ssl: bool | Mapping[str, Any] | None,  # noqa: FBT001  # as the setting is
        transport: Mapping[str, Any],
    ) -> Way:
        access = Access(
            use_ssl=use_ssl,
            allow_plaintext=self.settings.unsafe_allow_plaintext_broker,
            allow_unverified=self.settings.unsafe_allow_unverified_tls,
            allow_eviction=self.settings.unsafe_allow_eviction,
        )
        return Way(access, transport)

    def audit(self) -> AuditLog:
        """The audit trail of this process."""
        if self._audit is None:
            path, keeping = find_log(self.settings, self.state_directory), keeping_of(self.settings)
            self._audit = AuditLog(path, clock=self.clock, source=self.role, keeping=keeping)
        return self._audit

    def _own_identity(self) -> OwnIdentity:
        if self._own is None:
            settings = self.settings
            if settings.security_key or settings.security_certificate:
                load, paths = self._identity_from_settings()
            else:
                load, paths = self._project_identity()
            self._own = OwnIdentity(load, paths, clock=self.clock, on_event=self._report_identity)
            logger.debug("identity %s", self._own.current().identity)
        return self._own

    def _identity_from_settings(self) -> _Source:
        settings = self.settings
        for name in ("security_key", "security_certificate"):
            if not getattr(settings, name):
                raise ImproperlyConfigured(
                    f"{name} is not set, but its other half is; set both or neither"
                )
        key = reveal(settings, "security_key")
        certificate = Path(settings.security_certificate).expanduser()
        place = find_place(key)
        if place is not None:
            return self._identity_elsewhere(place, certificate)

        def load() -> PrivateIdentity:
            password = reveal(settings, "security_key_password")
            return load_identity(
                Path(key).expanduser(),
                certificate,
                password=password.encode() if password else None,
                digest=settings.security_digest,
            )

        return _Source(load, (Path(key).expanduser(), certificate))

    def _identity_elsewhere(self, place: Place, certificate: Path) -> _Source:
        settings = self.settings
        if settings.security_key_password:
            raise ImproperlyConfigured(
                f"security_key_password is set, but the key is with {place}; leave it out here"
            )
        client = SignerClient(place, clock=self.clock)

        def load() -> PrivateIdentity:
            return load_identity_from(
                client,
                certificate,
                domain=settings.security_domain,
                digest=settings.security_digest,
                timeout=TRIAL_SECONDS if self._own is None else RENEWAL_SECONDS,
            )

        return _Source(load, (certificate,))

    def _project_identity(self) -> _Source:
        key = self.state_directory / f"{self.role}.key"
        certificate = key.with_suffix(".pem")
        if self.embedded:
            paths = ensure_identity(self.state_directory, self.role, clock=self.clock)
            key, certificate = paths.key, paths.certificate
        elif not key.exists():
            scheme = self.broker_url.partition(":")[0]
            raise ImproperlyConfigured(
                f"no identity to sign with for the {scheme} broker: {key} does not exist; run "
                "`cardoon init`, or set security_key, security_certificate and security_cert_store"
            )
        load = partial(load_identity, key, certificate, digest=self.settings.security_digest)
        return _Source(load, (key, certificate))

    def _trust_paths(self) -> TrustPaths:
        settings = self.settings
        pins, anchors = settings.security_cert_store, settings.security_ca_certificates
        if not pins and not anchors:
            if settings.security_key:
                raise ImproperlyConfigured(
                    "security_key is set, but nobody is trusted: set security_cert_store (trusted "
                    "certificates) or security_ca_certificates (authorities)"
                )
            if self.embedded:
                self.identity()  # makes the folder and puts this role's certificate in it
            authority = self.state_directory / "ca.pem"
            anchors = (str(authority),) if authority.exists() else ()
            pins = (str(self.state_directory / "trusted"),)
        return TrustPaths(tuple(pins), anchors if isinstance(anchors, tuple) else dict(anchors))

    def _report_identity(self, event: str, detail: str) -> None:
        # That certificates are renewed every hour is news, and no reason to worry.
        level = logging.INFO if event == IdentityEvent.RELOADED else logging.WARNING
        logger.log(level, "identity: %s: %s", event, detail)
        self.audit().record(f"identity.{event}", detail=detail)

    def _report_trust(self, event: str, detail: str) -> None:
        logger.warning("trust store: %s: %s", event, detail)
        self.audit().record(f"trust.{event}", detail=detail)

    def _report_policy(self, event: str, detail: str) -> None:
        logger.warning("policy: %s: %s", event, detail)
        self.audit().record(f"policy.{event}", detail=detail)

    def _report_keyset(self, event: str, detail: str) -> None:
        logger.warning("keyset: %s: %s", event, detail)
        self.audit().record(f"keyset.{event}", detail=detail)


def _accept(names: tuple[str, ...]) -> Accepted:
    """The codecs of these contents, all of which can be read here."""
    for name in names:
        check_serializer(find_content(name).media_type)
    return accept(names)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _plain(url: str) -> str:
    """The URL, with our own name of an embedded store."""
    scheme, mark, rest = url.partition("://")
    name = _ALIASES.get(scheme.lower(), scheme.lower())
    return f"{name}{mark}{rest}" if name in EMBEDDED else url


def require_signatures(
    conf: Conf, given: Mapping[str, str | None], *, accept: Sequence[str], serializer: str = "json"
) -> None:
    """Sign everything with the files that are given or set, and accept nothing else but `accept`.

    `serializer` says how what is signed is written.
    """
    content = find_content(serializer, setting="setup_security: serializer")
    signed = content.name if content.is_signed else "auth"
    conf.update(
        {name: value for name, value in given.items() if value is not None},
        task_serializer=signed,
        result_serializer="",  # as tasks
        accept_content=list(dict.fromkeys(["auth", signed, *accept])),
    )
    settings = conf.settings()
    for name in ("security_key", "security_certificate", "security_cert_store"):
        if not getattr(settings, name):
            raise ImproperlyConfigured(
                f"setup_security: {name} is not set; it needs security_key, security_certificate "
                "and security_cert_store"
            )
