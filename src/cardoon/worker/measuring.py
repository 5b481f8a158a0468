"""What a worker's parts know in numbers, as metrics: read when somebody collects, and kept by nobody twice.

The names that dashboards for Celery ask for, and ours beside them where these say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cardoon import __version__
from cardoon.audit import AuditLog
from cardoon.integrity.findings import Kind
from cardoon.metrics import Registry, Sample
from cardoon.worker.alarms import ClockAlarm, RefusalAlarm
from cardoon.worker.checkup import Checkup
from cardoon.worker.curating import Curator
from cardoon.worker.drift import DriftWatch
from cardoon.worker.expiring import ExpiryWatch
from cardoon.worker.firewalling import FirewallWatch
from cardoon.worker.health import Health
from cardoon.worker.held import HeldTable
from cardoon.worker.probing import Probe
from cardoon.worker.settler import Settler
from cardoon.worker.violation_log import ViolationLog
from cardoon.worker.vitals import Vitals


class Measured(NamedTuple):
    """The parts of a worker that have numbers."""

    worker: str
    queues: tuple[str, ...]
    concurrency: int
    vitals: Vitals
    health: Health
    held: HeldTable
    settler: Settler
    audit: AuditLog
    refusals: RefusalAlarm
    clocks: ClockAlarm
    expiry: ExpiryWatch
    firewall: FirewallWatch | None
    curator: Curator
    drift: DriftWatch | None
    checkup: Checkup
    probe: Probe
    violations: ViolationLog | None
    processes: Callable[[], int]


def measure(registry: Registry, parts: Measured) -> None:
    """Have all of it told."""
    _measure_worker(registry, parts)
    _measure_counts(registry, parts)
    _measure_stores(registry, parts)
    _measure_security(registry, parts)
    if parts.drift is not None:
        _measure_drift(registry, parts.drift)
    _measure_doctor(registry, parts.checkup)


def _measure_worker(registry: Registry, parts: Measured) -> None:
    worker = (parts.worker,)
    held = parts.held
    named = ("hostname",)

    def of_worker(read: Callable[[], float]) -> Callable[[], Iterable[Sample]]:
        return lambda: [(worker, float(read()))]

    registry.gauge(
        ("cardoon_build_info",),
        "The version that runs.",
        lambda: [((__version__,), 1.0)],
        ("version",),
    )
    registry.gauge(
        ("celery_worker_up", "cardoon_worker_up"),
        "Whether the worker can run tasks (readiness).",
        of_worker(lambda: parts.health.ready().is_good),
        named,
    )
    registry.gauge(
        ("celery_worker_tasks_active", "cardoon_worker_tasks_active"),
        "Messages that the worker holds.",
        of_worker(lambda: len(held)),
        named,
    )
    registry.gauge(
        ("cardoon_worker_concurrency",),
        "Tasks that may run at a time.",
        of_worker(lambda: parts.concurrency),
        named,
    )
    registry.gauge(
        ("cardoon_worker_outcomes_waiting",),
        "Ends of tasks that are not written yet.",
        of_worker(lambda: parts.settler.waiting),
        named,
    )


def _measure_counts(registry: Registry, parts: Measured) -> None:
    vitals, queues = parts.vitals, parts.queues
    by_queue = ("queue_name",)
    for name in ("celery_active_worker_count", "celery_active_consumer_count"):
        registry.gauge((name,), "This worker.", lambda: [((one,), 1.0) for one in queues], by_queue)
    registry.gauge(
        ("celery_active_process_count",),
        "Task processes of this worker.",
        lambda: [((one,), float(parts.processes())) for one in queues],
        by_queue,
    )
    registry.gauge(
        ("cardoon_worker_processes",),
        "Task processes of this worker.",
        lambda: [((parts.worker,), float(parts.processes()))],
        ("hostname",),
    )
    registry.gauge(
        ("cardoon_worker_seconds_since",),
        "Seconds since the stores last answered, by what was asked.",
        lambda: [((deed,), age) for deed, age in vitals.ages().items() if age is not None],
        ("deed",),
    )
    registry.total(
        ("cardoon_worker_loop_turns_total",),
        "How often each of the worker's loops has turned.",
        lambda: [((loop.value,), float(count)) for loop, count in vitals.turns.items()],
        ("loop",),
    )


def _measure_stores(registry: Registry, parts: Measured) -> None:
    probe, curator, queues = parts.probe, parts.curator, frozenset(parts.queues)

    def depths(state: str) -> Iterator[Sample]:
        for depth in probe.depths:
            if depth.queue in queues:  # the others are some other worker's to tell
                yield (depth.queue,), float(getattr(depth, state) or 0.0)

    labels = ("queue_name",)
    registry.gauge(
        ("celery_queue_length", "cardoon_queue_ready"),
        "Messages that could be run now, in each queue of this worker.",
        lambda: depths("ready"),
        labels,
    )
    for state, text in (
        ("scheduled", "Messages whose time has not come."),
        ("dormant", "Messages that wait for others to end."),
        ("leased", "Messages that workers hold."),
        ("limited", "Messages that a limit holds back."),
    ):
        name = f"cardoon_queue_{state}"
        registry.gauge((name,), text, lambda state=state: depths(state), labels)  # type: ignore[misc]
    registry.gauge(
        ("cardoon_queue_oldest_seconds",),
        "Age of the oldest message that could be run now.",
        lambda: depths("oldest"),
        labels,
    )
    registry.total(
        ("cardoon_probe_failures_total",),
        "Questions to the stores that failed.",
        lambda: [((), float(probe.failures))],
    )
    registry.gauge(
        ("cardoon_quarantine_messages",),
        "Messages in the quarantine of this broker, by reason.",
        lambda: [((fill.reason,), float(fill.messages)) for fill in curator.fills],
        ("reason",),
    )
    registry.gauge(
        ("cardoon_quarantine_bytes",),
        "Bytes in the quarantine of this broker, by reason.",
        lambda: [((fill.reason,), float(fill.bytes)) for fill in curator.fills],
        ("reason",),
    )


def _measure_security(registry: Registry, parts: Measured) -> None:
    counts = parts.audit.counts

    def refused() -> Iterator[Sample]:
        for (queue, reason), count in list(parts.refusals.totals.items()):
            yield (reason, queue), float(count)

    registry.total(
        ("cardoon_messages_rejected_total",),
        "Messages that the gate refused, by reason.",
        refused,
        ("reason", "queue_name"),
    )
    registry.gauge(
        ("cardoon_cert_expiry_timestamp_seconds",),
        "When the first certificate of each use ends, in seconds since the epoch.",
        lambda: _ends(parts.expiry),
        ("use",),
    )
    firewall = parts.firewall
    if firewall is not None:
        registry.gauge(
            ("cardoon_firewall_ok",),
            "Whether the firewall of this host was as it should be at the last look.",
            lambda: [((), float(firewall.is_ok))],
        )
    violations = parts.violations
    if violations is not None:
        registry.total(
            ("cardoon_sandbox_violations_total",),
            "What sandboxes have refused tasks, by rule.",
            lambda: [((rule,), float(count)) for rule, count in list(violations.counts.items())],
            ("kind",),
        )
    registry.total(
        ("cardoon_lease_losses_total",),
        "Tasks whose lease was lost, so that their outcome changed nothing.",
        lambda: [((), float(counts["task.lease_lost"]))],
    )
    registry.total(
        ("cardoon_clock_jumps_total",),
        "How often the clock of this host went otherwise than time.",
        lambda: [((), float(parts.clocks.jumps))],
    )
    _measure_audit(registry, parts.audit)


def _measure_audit(registry: Registry, audit: AuditLog) -> None:
    counts = audit.counts
    registry.total(
        ("cardoon_audit_records_total",),
        "Records of the audit trail, by event.",
        lambda: [((event,), float(count)) for event, count in list(counts.items())],
        ("event",),
    )
    registry.total(
        ("cardoon_audit_dropped_total",),
        "Records of the audit trail that could not be written.",
        lambda: [((), float(audit.lost))],
    )
    registry.gauge(
        ("cardoon_audit_seq",),
        "Records of the audit log, of all processes that write it.",
        lambda: [((), float(audit.size))],
    )
    registry.gauge(
        ("cardoon_audit_checkpoint_age_seconds",),
        "Since this worker signed a checkpoint of the audit log.",
        lambda: [] if (age := audit.checkpoint_age) is None else [((), age)],
    )


def _measure_drift(registry: Registry, drift: DriftWatch) -> None:
    registry.gauge(
        ("cardoon_integrity_drift",),
        "What is not as the baseline says, by kind, as the last check found.",
        lambda: [((kind.value,), float(drift.drift[kind])) for kind in Kind],
        ("class",),
    )
    registry.gauge(
        ("cardoon_integrity_last_full_check_timestamp_seconds",),
        "When the last full check of the files ended.",
        lambda: [((), drift.checked_at)],
    )
    registry.gauge(
        ("cardoon_baseline_serial",),
        "Serial of the baseline that counts; 0 for none yet.",
        lambda: [((), float(drift.serial))],
    )


def _measure_doctor(registry: Registry, checkup: Checkup) -> None:
    registry.gauge(
        ("cardoon_doctor_findings",),
        "What the doctor has found open when it looked last, by severity.",
        lambda: [((severity,), float(count)) for severity, count in checkup.counts.items()],
        ("severity",),
    )


def _ends(expiry: ExpiryWatch) -> Iterator[Sample]:
    """Of each use the certificate that ends first."""
    first: dict[str, float] = {}
    for one in expiry.findings:
        if one.not_after:
            use = one.part.value
            first[use] = min(first.get(use, float("inf")), one.not_after)
    for use, moment in first.items():
        yield (use,), moment
