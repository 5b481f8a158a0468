"""Reads the policy file: who may do what, in TOML.

    version = 1

    [role.web]
    ids = ["spiffe://acme.example/ns/prod/sa/web-*"]

    [[allow]]
    role = "web"
    action = "send"
    task = ["shop.orders.*", "mail.receipt"]
    queue = ["default", "mail"]
    max_eta = "7d"
    max_body = "256KiB"

A file that says anything which is not understood is refused as a whole: a rule whose restriction was
overlooked would allow too much (message-security 5.1).
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.message.headers import MAPS
from cardoon.sandbox.merging import MAX_PROFILES, Row
from cardoon.sandbox.profile import Sandbox
from cardoon.security.identity import is_spiffe_id
from cardoon.security.patterns import Pattern
from cardoon.security.policy import Action
from cardoon.security.rules import UNSIGNED, Id, Rule, Rules, listed

VERSION = 1
MAX_FILE_BYTES = 1 << 20
MAX_SESSIONS = 100_000
"""An hour, for one signer: 800 million messages, and 25 MB in a worker that counts them."""

_KEYS = ("version", "role", "allow", "sandbox")
_ROLE_KEYS = ("ids", "max_sessions")
_RULE_KEYS = (
    *("role", "action", "task", "command", "queue"),
    *("max_eta", "max_body", "origin", "encrypted"),
)
_SANDBOX_KEYS = ("task", "queue", *(one.name for one in dataclasses.fields(Sandbox)))
_NAMING = frozenset({Action.SEND, Action.CONTROL, Action.SCHEDULE})
"""Actions that no rule allows without naming what for."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_MEASURE = re.compile(r"([0-9]{1,12})\s*([A-Za-z]{0,3})")
_FINGERPRINT = re.compile(r"sha256:([0-9a-fA-F]{64})")


def parse_rules(content: bytes, *, source: str) -> Rules:
    """Compile a policy file; `SecurityError` that names the place in `source` and what to write there."""
    if len(content) > MAX_FILE_BYTES:
        raise SecurityError(f"{source}: {len(content)} bytes; at most {MAX_FILE_BYTES}")
    try:
        found = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or numbers beyond reading
        raise SecurityError(f"{source}: not TOML: {error}") from error
    reader = _Reader(source)
    reader.check_keys(found, _KEYS, "the file")
    if found.get("version") != VERSION:
        raise SecurityError(
            f"{source}: version is {found.get('version')!r}; write version = {VERSION}"
        )
    roles = reader.read_roles(found.get("role", {}))
    allows = reader.read_allows(found.get("allow", []), roles)
    rows = reader.read_sandboxes(found.get("sandbox", []))
    return Rules(roles, allows, reader.session_limits, rows)


class _Reader:
    """Reads the parts of a file, and says where something is wrong."""

    def __init__(self, source: str) -> None:
        self._source = source
        self.session_limits: dict[str, int] = {}

    def read_roles(self, found: object) -> dict[str, tuple[Id, ...]]:
        if not isinstance(found, dict):
            raise self._error("role", "write [role.NAME] with ids = [...]")
        roles = {}
        for name, table in found.items():
            place = f"role {name}"
            if not isinstance(table, dict):
                raise self._error(place, "write [role.NAME] with ids = [...]")
            self.check_keys(table, _ROLE_KEYS, place)
            ids = self._texts(table, "ids", place)
            if not ids:
                raise self._error(place, "it has no ids; nobody can have it")
            roles[name] = tuple(self._read_id(text, place) for text in ids)
            if "max_sessions" in table:
                self.session_limits[name] = self._count(table["max_sessions"], place)
        return roles

    def read_allows(self, found: object, roles: Collection[str]) -> list[Rule]:
        if not isinstance(found, list):
            raise self._error("allow", "write [[allow]] for each rule")
        return [self._read_allow(one, number, roles) for number, one in enumerate(found, 1)]

    def read_sandboxes(self, found: object) -> list[Row]:
        if not isinstance(found, list) or len(found) > MAX_PROFILES:
            raise self._error("sandbox", f"write [[sandbox]] for each row, at most {MAX_PROFILES}")
        return [self._read_sandbox(one, number) for number, one in enumerate(found, 1)]

    def check_keys(self, table: Mapping[str, object], known: Sequence[str], place: str) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"use {listed(known)}"
                raise self._error(place, f"unknown key {key!r}; {hint}")

    def _read_allow(self, table: object, number: int, roles: Collection[str]) -> Rule:
        place = f"rule {number}"
        if not isinstance(table, dict):
            raise self._error(place, "write [[allow]] for each rule")
        self.check_keys(table, _RULE_KEYS, place)
        for key in ("role", "action"):
            if not table.get(key):
                raise self._error(place, f"it names no {key}; a rule says who may do what")
        named, origins = self._roles(table, "role", place, roles), frozenset[str]()
        if "origin" in table:
            origins = self._roles(table, "origin", place, roles)
        actions = frozenset(
            self._action(text, place) for text in self._texts(table, "action", place)
        )
        names = "command" if actions == {Action.CONTROL} else "task"
        if (other := "task" if names == "command" else "command") in table:
            raise self._error(place, f"{other} does not fit {listed(actions)}; use {names}")
        if not actions.isdisjoint(_NAMING) and not table.get(names):
            raise self._error(place, f'it names no {names}; write {names} = ["**"] for any')
        for key in ("queue", "max_eta", "max_body", "origin"):
            if key in table and actions != {Action.SEND}:
                raise self._error(place, f'{key} is for rules that allow "send" alone')
        maps = MAPS.intersection(self._texts(table, "task", place))
        if maps and Action.SEND in actions:
            raise self._error(
                place, f"{min(maps)} is judged by the task that it maps; name that task instead"
            )
        return Rule(
            number,
            named,
            actions,
            self._patterns(table, names, place),
            self._patterns(table, "queue", place),
            self._measure(table, "max_eta", _SECONDS, place),
            self._measure(table, "max_body", _BYTES, place),
            origins,
            self._encrypted(table, actions, place),
        )

    def _read_sandbox(self, table: object, number: int) -> Row:
        place = f"sandbox {number}"
        if not isinstance(table, dict):
            raise self._error(place, "write [[sandbox]] for each row")
        self.check_keys(table, _SANDBOX_KEYS, place)
        if not table.get("task") and not table.get("queue"):
            raise self._error(
                place, 'it names neither task nor queue; write task = ["**"] for every task'
            )
        if maps := MAPS.intersection(self._texts(table, "task", place)):
            raise self._error(
                place, f"{min(maps)} runs in the sandbox of the task that it maps; name that task"
            )
        fields = {key: value for key, value in table.items() if key not in ("task", "queue")}
        try:
            profile = Sandbox.from_mapping(fields)
        except ImproperlyConfigured as error:
            raise self._error(place, str(error).removeprefix("sandbox: ")) from None
        tasks, queues = (self._patterns(table, key, place) for key in ("task", "queue"))
        return Row(number, tasks, queues, profile)

    def _roles(
        self, table: Mapping[str, object], key: str, place: str, roles: Collection[str]
    ) -> frozenset[str]:
        named = self._texts(table, key, place)
        if not named:
            raise self._error(place, f"{key} is empty; leave it out, or name some")
        if unknown := [name for name in named if name not in roles]:
            raise self._error(
                place, f"no role {unknown[0]!r}; use {listed(roles) or '[role.NAME]'}"
            )
        return frozenset(named)

    def _count(self, found: object, place: str) -> int:
        if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= MAX_SESSIONS:
            raise self._error(
                place, f"max_sessions = {found!r}; write a number from 1 to {MAX_SESSIONS}"
            )
        return found

    def _encrypted(
        self, table: Mapping[str, object], actions: frozenset[Action], place: str
    ) -> bool:
        found = table.get("encrypted", False)
        if not isinstance(found, bool):
            raise self._error(place, f"encrypted = {found!r}; write true or false")
        if found and not actions <= {Action.SEND, Action.RESULT}:
            raise self._error(place, 'encrypted is for rules that allow "send" and "result" alone')
        return found

    def _read_id(self, text: str, place: str) -> Id:
        if found := _FINGERPRINT.fullmatch(text):
            return bytes.fromhex(found[1])
        if text.startswith("subject:"):
            return text.removeprefix("subject:")
        if text == UNSIGNED:
            return text
        domain, _, _ = text.removeprefix("spiffe://").partition("/")
        if not text.startswith("spiffe://") or not is_spiffe_id(text.replace("*", "x")):
            raise self._error(
                place,
                f"id {text!r}; use spiffe://DOMAIN/PATH, sha256:FINGERPRINT, subject:NAME or unsigned",
            )
        if "*" in domain:
            raise self._error(place, f"id {text!r}: a trust domain is named, never matched")
        return self._pattern(text, place)

    def _action(self, text: str, place: str) -> Action:
        try:
            return Action(text)
        except ValueError:
            raise self._error(place, f"unknown action {text!r}; use {listed(Action)}") from None

    def _patterns(self, table: Mapping[str, object], key: str, place: str) -> tuple[Pattern, ...]:
        if key in table and not table[key]:
            raise self._error(place, f"{key} is empty; leave it out, or name some")
        return tuple(self._pattern(text, place) for text in self._texts(table, key, place))

    def _pattern(self, text: str, place: str) -> Pattern:
        try:
            return Pattern(text)
        except SecurityError as error:
            raise self._error(place, str(error)) from None

    def _texts(self, table: Mapping[str, object], key: str, place: str) -> list[str]:
        found: Any = table.get(key, [])
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise self._error(place, f"{key} must be a text, or a list of texts")
        return texts

    def _measure(
        self, table: Mapping[str, object], key: str, units: Mapping[str, int], place: str
    ) -> int | None:
        if key not in table:
            return None
        found = _MEASURE.fullmatch(str(table[key]))
        if found is None or found[2] not in units:
            known = listed(unit for unit in units if unit)
            raise self._error(place, f"{key} = {table[key]!r}; write a number and {known}")
        return int(found[1]) * units[found[2]]

    def _error(self, place: str, detail: str) -> SecurityError:
        return SecurityError(f"{self._source}: {place}: {detail}")
