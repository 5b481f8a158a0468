"""Decides by rules who may do what. Allow-only, so their order says nothing; what none allows is denied.

`policyfile` reads them from TOML (message-security 5.1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.headers import INNER, MAPS, parse_headers
from cardoon.message.protocol import MAX_NAME
from cardoon.sandbox.merging import Matching, Row
from cardoon.security.identity import Identity
from cardoon.security.origins import Parties, read_origin
from cardoon.security.patterns import Pattern
from cardoon.security.policy import Action, Request

BUILT_INS = ("cardoon.", "celery.")
"""Names of tasks that no pattern with wildcards lets anybody send: they are there for other tasks.
Their results are like all others."""
DESTRUCTIVE = frozenset(
    {"shutdown", "pool_restart", "add_consumer", "cancel_consumer", "terminate"}
)
"""Commands that a pattern with wildcards never covers. What revokes tasks and stops those that run is `terminate`
besides its own name."""
_SENDING = frozenset({Action.SEND, Action.SCHEDULE})
UNSIGNED = "unsigned"
"""The id of whoever sends without a signature, where `accept_content` lets that in."""

Id: TypeAlias = Pattern | bytes | str
"""Who has a role: a SPIFFE id, the SHA-256 of a certificate, or a subject as RFC 4514 writes it."""

_MAX_DECISIONS = 8192
"""Remembered; some 300 bytes each."""


class Rule(NamedTuple):
    """One `[[allow]]`. Empty patterns allow any name."""

    number: int
    """Its place in the file, from 1."""
    roles: frozenset[str]
    actions: frozenset[Action]
    names: tuple[Pattern, ...]
    """Tasks, or commands for `control`."""
    queues: tuple[Pattern, ...]
    max_eta: float | None
    """Seconds ahead for which a task may be scheduled."""
    max_body: int | None
    """Bytes of a body as carried."""
    origins: frozenset[str] = frozenset()
    """Roles, one of which must have signed the request on whose behalf it is sent; empty for any."""
    encrypted: bool = False
    """Only what is sealed."""

    @property
    def bounded(self) -> bool:
        """Whether more than names decides."""
        return (
            self.max_eta is not None
            or self.max_body is not None
            or bool(self.origins)
            or self.encrypted
        )

    def describe_bounds(self) -> str:
        """Its bounds, for people."""
        told = []
        if self.max_eta is not None:
            told.append(f"at most {self.max_eta:.0f} seconds ahead")
        if self.max_body is not None:
            told.append(f"bodies of at most {self.max_body} bytes")
        if self.origins:
            told.append(f"while it runs a request of {listed(self.origins)}")
        if self.encrypted:
            told.append("sealed bodies alone")
        return ", ".join(told)

    def find_objection(self, request: Request, roles: Collection[str]) -> str | None:
        """Why it does not allow a request, whatever its size and time; None if it does."""
        if self.roles.isdisjoint(roles):
            return f"it is for {listed(self.roles)}"
        if request.action not in self.actions:
            return f"it allows {listed(self.actions)}"
        if not covers(self.names, request.task, guarded=_is_guarded(request)):
            return f"it covers {listed(one.text for one in self.names) or 'nothing built in'}"
        if not covers(self.queues, request.queue):
            return f"it is for queues {listed(one.text for one in self.queues)}"
        return None

    def find_excess(self, request: Request, origins: Sequence[Collection[str]]) -> str | None:
        """What of a request is beyond its bounds. `origins` are the roles of each on whose behalf it is."""
        if self.origins and (not origins or any(map(self.origins.isdisjoint, origins))):
            return (
                f"not sent while running a request of {listed(self.origins)} (rule {self.number})"
            )
        if self.max_eta is not None and request.ahead > self.max_eta:
            return (
                f"{request.ahead:.0f} seconds ahead; rule {self.number} allows {self.max_eta:.0f}"
            )
        if self.max_body is not None and request.length > self.max_body:
            return f"a body of {request.length} bytes; rule {self.number} allows {self.max_body}"
        if self.encrypted and not request.encrypted:
            return f"a body in the clear; rule {self.number} allows sealed ones"
        return None


class Rules:
    """A policy file, compiled. Immutable but for what it remembers; safe from several threads."""

    def __init__(
        self,
        roles: Mapping[str, tuple[Id, ...]],
        rules: Sequence[Rule],
        session_limits: Mapping[str, int] = MappingProxyType({}),
        sandboxes: Sequence[Row] = (),
    ) -> None:
        self.roles = roles
        self.rules = tuple(rules)
        self.session_limits = session_limits
        """How many sessions an hour one with a role may begin, by role."""
        self.sandboxes = tuple(sandboxes)
        """What tasks may reach where they run, in the order of the file; not for the gate."""
        self._speaking = frozenset().union(*(rule.roles for rule in rules if rule.origins))
        self._decisions: dict[tuple[bytes, Action, str, str], tuple[Rule, ...]] = {}
        self._roles: dict[tuple[bytes, str] | None, frozenset[str]] = {}

    def check(self, request: Request) -> Parties:
        """Raise `RefusedError(DENIED)` unless a rule allows the request.

        Returns on whose behalf it is asked: who signed it or, where its signer has a role that rules with
        `origin` are for, whom it names. Nobody, if such a one names nobody.
        """
        request, origin = self._read(request)
        self._check(request, origin)
        return origin

    def explain(self, request: Request) -> dict[int, str | None]:
        """What each rule has against a request, by its number; None where it allows it.

        `RefusedError` for one whose headers nobody can judge.
        """
        request, origin = self._read(request)
        roles = self.roles_of(request.signer)
        origins = [self.roles_of(one) for one in origin]
        return {
            rule.number: rule.find_objection(request, roles) or rule.find_excess(request, origins)
            for rule in self.rules
        }

    def _read(self, request: Request) -> tuple[Request, Parties]:
        """What is really asked for, a map's inner task, and on whose behalf."""
        origin: Parties = (request.signer,)
        if request.action is Action.SEND:
            speaks = self._speaking and not self._speaking.isdisjoint(
                self._known_roles(request.signer)
            )
            if speaks or request.task in MAPS:
                told = parse_headers(request.headers)
                origin = read_origin(told) if speaks else origin
                request = _inner_request(request, told)
        return request, origin

    def session_limit_of(self, signer: Identity | None) -> int | None:
        """How many sessions a signer may begin an hour; None for any number."""
        roles = self._known_roles(signer)
        return min(
            (self.session_limits[one] for one in roles if one in self.session_limits), default=None
        )

    def _check(self, request: Request, origin: Parties) -> None:
        signer = request.signer
        key = (
            b"" if signer is None else signer.fingerprint,
            request.action,
            request.task,
            request.queue,
        )
        allowing = self._decisions.get(key)
        if allowing is None:
            allowing = self._decide(request)
            if len(self._decisions) >= _MAX_DECISIONS:
                self._decisions.clear()
            self._decisions[key] = allowing
        if not allowing:
            raise RefusedError(Refusal.DENIED, f"no rule lets {_describe(request)}")
        if allowing[0].bounded:
            origins = [self._known_roles(one) for one in origin]
            excesses = [rule.find_excess(request, origins) for rule in allowing]
            if all(excesses):
                raise RefusedError(Refusal.DENIED, f"{excesses[0]}: {_describe(request)}")

    def roles_of(self, signer: Identity | None) -> frozenset[str]:
        """The roles that a signer has."""
        return frozenset(
            name for name, ids in self.roles.items() if any(_is(one, signer) for one in ids)
        )

    def _known_roles(self, signer: Identity | None) -> frozenset[str]:
        """`roles_of`, remembered."""
        key = None if signer is None else (signer.fingerprint, signer.name)
        found = self._roles.get(key)
        if found is None:
            if len(self._roles) >= _MAX_DECISIONS:
                self._roles.clear()
            found = self._roles[key] = self.roles_of(signer)
        return found

    def find_unused(self) -> list[str]:
        """Roles that no rule names: most likely a mistake."""
        named = frozenset().union(*(rule.roles | rule.origins for rule in self.rules))
        return [name for name in self.roles if name not in named]

    def find_shadowed(self) -> list[tuple[int, int]]:
        """Rows of `sandboxes` that never count, each with the one before it that takes its place."""
        found = []
        for at, row in enumerate(self.sandboxes):
            for before in self.sandboxes[:at]:
                if _includes(before.tasks, row.tasks) and _includes(before.queues, row.queues):
                    found.append((row.number, before.number))
                    break
        return found

    def _decide(self, request: Request) -> tuple[Rule, ...]:
        """The rules that may allow it; one without bounds alone, if there is one."""
        roles = self._known_roles(request.signer)
        found = [rule for rule in self.rules if rule.find_objection(request, roles) is None]
        return tuple(next(([rule] for rule in found if not rule.bounded), found))


def covers(patterns: Sequence[Pattern], name: str, *, guarded: bool = False) -> bool:
    """Whether a name is among patterns; none at all cover any. A guarded one must be there literally."""
    if guarded:
        return any(one.is_literal and one.text == name for one in patterns)
    return not patterns or any(one.matches(name) for one in patterns)


def _includes(wide: Sequence[Matching], narrow: Sequence[Matching]) -> bool:
    """Whether the first patterns surely fit all that the others fit; by their text, so not in all cases."""
    if not wide:
        return True
    return Pattern("**") in wide or (bool(narrow) and set(narrow) <= set(wide))


def listed(words: Iterable[object]) -> str:
    """Some words in order, for people."""
    return ", ".join(sorted(str(one) for one in words))


def _inner_request(request: Request, told: Mapping[str, Any]) -> Request:
    """Of a map, what it asks for: the task that it runs."""
    if request.task not in MAPS:
        return request
    inner = told.get(INNER)
    # As bounded as the name of a message's own task: it is remembered, and written into logs.
    if not isinstance(inner, str) or len(inner) > MAX_NAME or not inner.isprintable():
        raise RefusedError(
            Refusal.DENIED,
            f"{request.task}: its headers do not name the task that it maps; send it with this version",
        )
    return request._replace(task=inner)


def _is_guarded(request: Request) -> bool:
    if request.action is Action.CONTROL:
        return request.task in DESTRUCTIVE
    return request.action in _SENDING and request.task.startswith(BUILT_INS)


def _is(one: Id, signer: Identity | None) -> bool:
    """Whether an id of a role is a signer's."""
    if signer is None:
        return one == UNSIGNED
    match one:
        case Pattern():
            return one.matches(signer.name)
        case bytes():
            return one == signer.fingerprint
        case _:
            return one != UNSIGNED and one == signer.name


def _describe(request: Request) -> str:
    who = UNSIGNED if request.signer is None else request.signer.name
    where = f" on queue {request.queue}" if request.queue else ""
    return f"{who} {request.action} {request.task}{where}"
