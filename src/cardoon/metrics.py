"""Numbers that a Prometheus server collects: counters, gauges and histograms, and the text that tells them.

Text format 0.0.4. Every value of a label is escaped, and every family is bounded: whatever a process is made to
count, it neither grows without end nor fills the server that collects from it.
"""

from __future__ import annotations

import bisect
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

logger = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_SERIES = 2000
"""Of one family. What would be one more is counted in the series whose labels are all `_other`."""
OTHER = "_other"
MAX_LABEL = 200
"""Characters of a label's value."""
RUNTIME_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
)  # fmt: skip
"""Seconds; up to ten as the conventions of OpenTelemetry have them, and further for long tasks."""

Labels = tuple[str, ...]
"""Values, in the order of the family's names."""
Sample = tuple[Labels, float]


class Family(Protocol):
    """Series that share names, a kind and a text of help."""

    def lines(self) -> Iterator[str]:
        """What is told of it, under each of its names."""
        ...


class _Named:
    """Several names for the same numbers: those that dashboards know, and our own."""

    kind = ""

    def __init__(self, names: Sequence[str], text: str, labels: Sequence[str] = ()) -> None:
        self._names = tuple(names)
        self._text = text
        self._labels = tuple(labels)

    def _head(self, name: str) -> list[str]:
        return [f"# HELP {name} {_escape_help(self._text)}", f"# TYPE {name} {self.kind}"]

    def _shown(self, values: Labels, *more: str) -> str:
        pairs = [
            f'{name}="{_escape(value)}"' for name, value in zip(self._labels, values, strict=True)
        ]
        told = ",".join([*pairs, *more])
        return f"{{{told}}}" if told else ""


class Counter(_Named):
    """Only rises. Safe from threads."""

    kind = "counter"

    def __init__(self, names: Sequence[str], text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(names, text, labels)
        self._lock = threading.Lock()  # protects the table
        self._series: dict[Labels, float] = {}
        if not labels:
            self._series[()] = 0.0

    def add(self, amounts: Mapping[Labels, float]) -> None:
        """Add to several series at once, as many as a batch has."""
        with self._lock:
            for values, amount in amounts.items():
                key = _bounded(values, self._series)
                self._series[key] = self._series.get(key, 0.0) + amount

    def lines(self) -> Iterator[str]:
        """The present counts."""
        with self._lock:
            series = list(self._series.items())
        for name in self._names:
            yield from self._head(name)
            for values, count in series:
                yield f"{name}{self._shown(values)} {_number(count)}"


class Reading(_Named):
    """A counter or gauge whose numbers lie elsewhere, and are asked for when somebody collects."""

    def __init__(
        self,
        kind: str,
        names: Sequence[str],
        text: str,
        labels: Sequence[str],
        read: Callable[[], Iterable[Sample]],
    ) -> None:
        super().__init__(names, text, labels)
        self.kind = kind
        self._read = read

    def lines(self) -> Iterator[str]:
        """The present numbers."""
        series: dict[Labels, float] = {}
        for values, number in self._read():
            key = _bounded(values, series)
            is_sum = key != values and self.kind == "counter"
            series[key] = series.get(key, 0.0) + number if is_sum else number
        for name in self._names:
            yield from self._head(name)
            for values, number in series.items():
                yield f"{name}{self._shown(values)} {_number(number)}"


class Histogram(_Named):
    """How often something took how long. Safe from threads."""

    kind = "histogram"

    def __init__(
        self,
        names: Sequence[str],
        text: str,
        labels: Sequence[str],
        buckets: Sequence[float] = RUNTIME_BUCKETS,
    ) -> None:
        super().__init__(names, text, labels)
        self._buckets = tuple(buckets)
        self._lock = threading.Lock()  # protects the table
        self._series: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, found: Iterable[Sample]) -> None:
        """Note several durations, in seconds."""
        with self._lock:
            for values, seconds in found:
                key = _bounded(values, self._series)
                series = self._series.get(key)
                if series is None:
                    series = self._series[key] = ([0] * (len(self._buckets) + 1), [0.0])
                series[0][bisect.bisect_left(self._buckets, seconds)] += 1
                series[1][0] += seconds

    def lines(self) -> Iterator[str]:
        """The present counts, each bucket with those below it."""
        with self._lock:
            series = [
                (key, list(counts), total[0]) for key, (counts, total) in self._series.items()
            ]
        for name in self._names:
            yield from self._head(name)
            for values, counts, total in series:
                below = 0
                for bound, count in zip((*self._buckets, float("inf")), counts, strict=True):
                    below += count
                    edge = f'le="{_number(bound)}"'
                    yield f"{name}_bucket{self._shown(values, edge)} {below}"
                yield f"{name}_sum{self._shown(values)} {_number(total)}"
                yield f"{name}_count{self._shown(values)} {below}"


class Registry:
    """The families of one process."""

    def __init__(self) -> None:
        self._families: list[Family] = []

    def counter(self, names: Sequence[str], text: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter; what has several names is told under each."""
        made = Counter(names, text, labels)
        self._families.append(made)
        return made

    def histogram(self, names: Sequence[str], text: str, labels: Sequence[str]) -> Histogram:
        """A new histogram of seconds."""
        made = Histogram(names, text, labels)
        self._families.append(made)
        return made

    def gauge(
        self,
        names: Sequence[str],
        text: str,
        read: Callable[[], Iterable[Sample]],
        labels: Sequence[str] = (),
    ) -> None:
        """A gauge that is read when somebody collects."""
        self._families.append(Reading("gauge", names, text, labels, read))

    def total(
        self,
        names: Sequence[str],
        text: str,
        read: Callable[[], Iterable[Sample]],
        labels: Sequence[str] = (),
    ) -> None:
        """A counter that is read when somebody collects."""
        self._families.append(Reading("counter", names, text, labels, read))

    def render(self) -> str:
        """All families as text. One that cannot be read is left out, and logged."""
        lines: list[str] = []
        for family in self._families:
            try:
                lines += list(family.lines())
            except Exception:  # a number that cannot be had must not cost all the others
                logger.exception("metrics")
        return "\n".join(lines) + "\n"


def _bounded(values: Labels, series: Mapping[Labels, object]) -> Labels:
    if values in series or len(series) < MAX_SERIES:
        return values
    return (OTHER,) * len(values)


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _escape(value: str) -> str:
    cut = value[:MAX_LABEL].encode("utf-8", "replace").decode()
    return cut.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
