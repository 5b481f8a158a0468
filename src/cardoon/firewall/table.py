"""A table as nft lists it, without what traffic changes; and how two of them differ.

What is read here comes from another program: it is bounded before, and anything that it should not be is a `ValueError`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FAMILY = "inet"
TABLE = "cardoon"
MAX_SHOWN = 300
"""Characters of a rule that is not ours."""
MAX_DIFFERENCES = 50
"""That are told one by one; a table that is somebody else's altogether needs no more."""


class Chain(NamedTuple):
    """How the kernel comes to it, what becomes of a packet in the end, and its rules as canonical JSON."""

    type: str
    hook: str
    priority: int
    policy: str
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """All that decides about packets: chains, flags such as `dormant`, and sets, maps and the like."""

    chains: Mapping[str, Chain]
    flags: tuple[str, ...] = ()
    objects: tuple[str, ...] = field(default=())

    def digest(self) -> str:
        """SHA-256 of the canonical form, in hex: the same as long as no rule changes, whatever traffic there is."""
        told = {
            "chains": {name: list(chain) for name, chain in self.chains.items()},
            "flags": self.flags,
            "objects": self.objects,
        }
        return hashlib.sha256(_dump(told).encode()).hexdigest()


class Difference(NamedTuple):
    """One thing that is not as it should be."""

    kind: str
    """`table-absent`, `table-flags`, `chain-missing`, `chain-added`, `chain-changed`, `policy-changed`,
    `rule-missing`, `rule-added`, `rule-moved`, `object-added` or `more`."""
    where: str
    """The chain, or empty."""
    detail: str

    def __str__(self) -> str:
        place = f" in chain {self.where}" if self.where else ""
        return f"{self.kind}{place}: {self.detail}"


def canonical_rule(expressions: Sequence[Any]) -> str:
    """A rule without counts, and with sets in order."""
    return _dump([_canonical(one) for one in expressions])


def parse_table(listing: bytes) -> Table:
    """What `nft -j list table inet cardoon` says; `ValueError` where it says something else."""
    try:
        entries = json.loads(listing)["nftables"]
        return _read(entries)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"nft lists something that is no table: {error!r}") from error


def parse_hooks(listing: bytes) -> tuple[str, ...]:
    """Chains of other tables that see the same packets, from `nft -j list chains`; for people."""
    try:
        entries = json.loads(listing)["nftables"]
        return tuple(_others(entries))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"nft lists something that is no chains: {error!r}") from error


def compare(expected: Table, found: Table | None) -> list[Difference]:
    """All that differs, at most `MAX_DIFFERENCES`; empty where nothing does."""
    if found is None:
        return [Difference("table-absent", "", f"no table {FAMILY} {TABLE} is loaded")]
    differences = list(_compare(expected, found))
    if len(differences) > MAX_DIFFERENCES:
        count = len(differences) - MAX_DIFFERENCES
        return [*differences[:MAX_DIFFERENCES], Difference("more", "", f"{count} differences more")]
    return differences


def _compare(expected: Table, found: Table) -> Iterator[Difference]:
    if found.flags != expected.flags:
        detail = "some are set, and a table that is dormant filters nothing"
        yield Difference("table-flags", "", detail)  # releases of nft name the flags otherwise
    for name in sorted(expected.chains.keys() | found.chains.keys()):
        ours, theirs = expected.chains.get(name), found.chains.get(name)
        if theirs is None:
            yield Difference("chain-missing", name, "it is not loaded")
        elif ours is None:
            yield Difference("chain-added", name, f"{len(theirs.rules)} rules")
        else:
            yield from _compare_chains(name, ours, theirs)
    for added in (Counter(found.objects) - Counter(expected.objects)).elements():
        yield Difference("object-added", "", _shortened(added))


def _compare_chains(name: str, ours: Chain, theirs: Chain) -> Iterator[Difference]:
    if ours.policy != theirs.policy:
        detail = f"{_shortened(theirs.policy)} instead of {ours.policy}"
        yield Difference("policy-changed", name, detail)
    if ours[:3] != theirs[:3]:
        now = f"type {theirs.type}, hook {theirs.hook}, priority {theirs.priority}"
        yield Difference("chain-changed", name, _shortened(now))
    if ours.rules == theirs.rules:
        return
    missing = Counter(ours.rules) - Counter(theirs.rules)
    added = Counter(theirs.rules) - Counter(ours.rules)
    for rule in missing.elements():
        yield Difference("rule-missing", name, describe_rule(rule))
    for rule in added.elements():
        yield Difference("rule-added", name, describe_rule(rule))
    if not missing and not added:
        matcher = difflib.SequenceMatcher(None, ours.rules, theirs.rules, autojunk=False)
        for tag, _, _, begin, end in matcher.get_opcodes():
            if tag in {"insert", "replace"}:
                for rule in theirs.rules[begin:end]:
                    yield Difference("rule-moved", name, describe_rule(rule))


def describe_rule(rule: str) -> str:
    """A canonical rule for people, much as nft writes it; shortened, and on one line."""
    return _shortened(" ".join(_describe(one) for one in json.loads(rule)))


def _describe(expression: Any) -> str:
    match expression:
        case {"match": {"op": op, "left": left, "right": right}, **rest} if not rest:
            sign = "" if op in {"==", "in"} else f"{op} "
            return f"{_describe_side(left)} {sign}{_describe_side(right)}"
        case {"counter": None, **rest} if not rest:
            return "counter"
        case {**verdict} if len(verdict) == 1 and list(verdict.values()) == [None]:
            return str(next(iter(verdict)))
        case _:
            return _dump(expression)


def _describe_side(side: Any) -> str:
    match side:
        case {"payload": {"protocol": str(protocol), "field": str(name)}}:
            return f"{protocol} {name}"
        case {"meta": {"key": str(key)}}:
            return f"meta {key}"
        case {"ct": {"key": str(key)}}:
            return f"ct {key}"
        case {"prefix": {"addr": str(address), "len": int(length)}}:
            return f"{address}/{length}"
        case {"set": [*members]}:
            return f"{{ {', '.join(_describe_side(one) for one in members)} }}"
        case str() | int():
            return str(side)
        case _:
            return _dump(side)


def _read(entries: Sequence[Any]) -> Table:
    heads: dict[str, dict[str, Any]] = {}
    rules: dict[str, list[str]] = {}
    flags: tuple[str, ...] = ()
    objects = []
    for entry in entries:
        [(kind, told)] = entry.items()
        if kind == "metainfo":
            continue
        if kind == "table":
            flags = _as_words(told.get("flags"))
        elif kind == "chain":
            heads[str(told["name"])] = told
        elif kind == "rule":
            rules.setdefault(str(told["chain"]), []).append(canonical_rule(told["expr"]))
        else:
            plain = {key: value for key, value in told.items() if key not in {"handle", "comment"}}
            objects.append(_dump({kind: plain}))
    chains = {
        name: Chain(
            str(told.get("type", "")),
            str(told.get("hook", "")),
            int(told.get("prio", 0)),
            str(told.get("policy", "")),
            tuple(rules.get(name, ())),
        )
        for name, told in heads.items()
    }
    return Table(chains, flags, tuple(sorted(objects)))


def _others(entries: Sequence[Any]) -> Iterator[str]:
    for entry in entries:
        told = entry.get("chain")
        if told is None or told.get("hook") not in {"input", "output", "ingress", "egress"}:
            continue
        if (told.get("family"), told.get("table")) == (FAMILY, TABLE):
            continue
        yield _shortened(
            f"table {told.get('family')} {told.get('table')}, chain {told.get('name')}: hook {told['hook']}, "
            f"priority {told.get('prio')}, policy {told.get('policy')}"
        )


def _canonical(value: Any) -> Any:
    """Counts gone and sets in order, at every depth."""
    if isinstance(value, list):
        return [_canonical(one) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("counter"), dict):
        return {"counter": None}
    found = {key: _canonical(one) for key, one in value.items()}
    if isinstance(found.get("set"), list):
        found["set"] = sorted(found["set"], key=_dump)
    return found


def _as_words(value: Any) -> tuple[str, ...]:
    """One flag is written as a string, several as a list."""
    if value is None:
        return ()
    return tuple(sorted(map(str, value))) if isinstance(value, list) else (str(value),)


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _shortened(text: str) -> str:
    plain = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return plain if len(plain) <= MAX_SHOWN else plain[:MAX_SHOWN] + "..."
