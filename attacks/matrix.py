"""The attacks by name, each with its category and what is to become of it, and their run against one site."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attacks.raid import Raid
from attacks.site import Site

Act = Callable[[Raid], None]

BROKERS = ("sqlite", "redis", "postgres", "rabbitmq")
TOGETHER = 24
"""Attacks that are begun before the first of them is judged: most of their time is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attempt."""

    name: str
    category: str
    text: str
    act: Act
    brokers: tuple[str, ...]
    alone: bool
    """Whether nothing else is to happen meanwhile, so that what it breaks is known to be its work."""
    limit: str
    """Where the documentation says that it may succeed: what it says."""


ATTACKS: dict[str, Attack] = {}


def attack(
    category: str,
    *,
    name: str = "",
    text: str = "",
    brokers: Sequence[str] = BROKERS,
    alone: bool = False,
    limit: str = "",
) -> Callable[[Act], Act]:
    """Enter an attack, under its function's name and with its docstring unless others are given."""

    def enter(act: Act) -> Act:
        known = name or act.__name__
        said = text or (act.__doc__ or "").strip()
        assert said, "an attack says what it does"
        assert known not in ATTACKS, f"{known} is there already"
        ATTACKS[known] = Attack(
            name=known,
            category=category,
            text=said,
            act=act,
            brokers=tuple(brokers),
            alone=alone,
            limit=limit,
        )
        return act

    return enter


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one attack."""

    attack: str
    category: str
    broker: str
    text: str
    outcome: str
    """What its target did: the reasons for its refusals, or how it went on."""
    succeeded: tuple[str, ...]
    """In which ways it got what it wanted; empty if in none."""
    limit: str
    seconds: float

    @property
    def is_finding(self) -> bool:
        """Whether it succeeded, and nobody has said that it may."""
        return bool(self.succeeded) and not self.limit


def run(attacks: Collection[Attack], broker: str, *, weakness: str = "") -> Iterator[Row]:
    """Try attacks against a fresh deployment, and judge each."""
    with tempfile.TemporaryDirectory(prefix=f"cardoon-attacked-{broker}-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL, which does not run as root, has its data below
        site = Site(broker, Path(folder) / "site", weakness=weakness)
        try:
            site.open()
            for batch in _batches([one for one in attacks if broker in one.brokers]):
                yield from _run_together(site, batch)
        finally:
            site.close()


def _batches(attacks: Sequence[Attack]) -> Iterator[list[Attack]]:
    batch: list[Attack] = []
    for one in attacks:
        if batch and (one.alone or batch[-1].alone or len(batch) >= TOGETHER):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _run_together(site: Site, attacks: Sequence[Attack]) -> Iterator[Row]:
    begun = time.monotonic()
    raids = [Raid(site, one.name) for one in attacks]
    for raid, one in zip(raids, attacks, strict=True):
        raid.attempt(one.act)
    seconds = (time.monotonic() - begun) / len(raids)
    for raid, one in zip(raids, attacks, strict=True):
        begun = time.monotonic()
        complaints = raid.judge()
        yield Row(
            attack=one.name,
            category=one.category,
            broker=site.broker,
            text=one.text,
            outcome=raid.outcome,
            succeeded=tuple(complaints),
            limit=one.limit,
            seconds=seconds + time.monotonic() - begun,
        )
    if not site.is_worker_alive:
        site.start_worker()
