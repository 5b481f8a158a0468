"""The catalogue: every event of the audit trail, and what it is to those who collect events.

From this one table come severities, the fields of ECS, OCSF and CEF, and the rules in `deploy/syslog`.
Names stay; what stands beside them follows the schemas named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from cardoon.syslog.messages import Severity

OCSF_VERSION = "1.3.0"
ECS_VERSION = "8.11.0"
ATTACK_VERSION = "16"

DETECTION, COMPLIANCE = 2004, 2003
FILE, MODULE, JOB, PROCESS, EVENT_LOG = 1001, 1005, 1006, 1007, 1008
LOGON, SESSION, ENTITY = 3002, 3003, 3004
NETWORK, CONFIGURATION = 4001, 5019
LIFECYCLE, API = 6002, 6003
OTHER_ACTIVITY = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What one event is, in each of the schemas."""

    title: str
    severity: Severity
    is_alarm: bool = False
    """Whether it is a finding in itself: OCSF's class 2004 around the activity."""
    ocsf_class: int
    ocsf_activity: int
    ocsf_severity: int
    """1 informational, 2 low, 3 medium, 4 high, 5 critical."""
    category: tuple[str, ...]
    """ECS's `event.category`."""
    type: tuple[str, ...]
    """ECS's `event.type`."""
    outcome: str = "unknown"
    cef_severity: int
    """0 to 10."""
    attack: tuple[str, ...] = ()
    """Techniques of ATT&CK."""
    weaknesses: tuple[str, ...] = ()
    """Of CWE, and patterns of CAPEC."""


_DETECTED, _KNOWN = "intrusion_detection", "authentication"

_FORGED = Event(
    title="", severity=Severity.CRITICAL, is_alarm=True, ocsf_class=API, ocsf_activity=OTHER_ACTIVITY,
    ocsf_severity=4, category=(_DETECTED, _KNOWN), type=("denied",), outcome="failure",
    cef_severity=8, attack=("T1565.002",), weaknesses=("CWE-347",),
)  # fmt: skip
_STRANGER = replace(
    _FORGED, is_alarm=False, ocsf_class=LOGON, ocsf_activity=1, category=(_KNOWN,),
    attack=("T1078",), weaknesses=("CWE-345",),
)  # fmt: skip
_COPIED = replace(
    _FORGED,
    ocsf_class=LOGON,
    ocsf_activity=1,
    attack=("T1550",),
    weaknesses=("CWE-294", "CAPEC-60"),
)
_STALE = replace(
    _STRANGER, severity=Severity.WARNING, ocsf_severity=2, cef_severity=4, attack=(),
    weaknesses=("CWE-613",),
)  # fmt: skip
_MISDIRECTED = replace(
    _STRANGER, severity=Severity.ERROR, ocsf_severity=3, cef_severity=6, attack=(),
    weaknesses=("CWE-441",),
)  # fmt: skip
_BROKEN = Event(
    title="", severity=Severity.WARNING, ocsf_class=API, ocsf_activity=OTHER_ACTIVITY, ocsf_severity=2,
    category=("api",), type=("error",), outcome="failure", cef_severity=5, attack=("T1499",),
    weaknesses=("CWE-20", "CWE-400"),
)  # fmt: skip
_UNAUTHORIZED = Event(
    title="", severity=Severity.ERROR, ocsf_class=API, ocsf_activity=OTHER_ACTIVITY, ocsf_severity=4,
    category=("api", "iam"), type=("denied",), outcome="failure", cef_severity=7, attack=("T1078",),
    weaknesses=("CWE-862", "CWE-863"),
)  # fmt: skip
_CODE = Event(
    title="", severity=Severity.ALERT, is_alarm=True, ocsf_class=PROCESS,
    ocsf_activity=OTHER_ACTIVITY, ocsf_severity=5, category=(_DETECTED, "process"), type=("denied",),
    outcome="failure", cef_severity=9, attack=("T1059.006", "T1611", "T1068"),
    weaknesses=("CWE-693",),
)  # fmt: skip
_DRIFT = replace(
    _CODE, ocsf_class=FILE, ocsf_activity=3, category=("file", _DETECTED), type=("change",),
    outcome="unknown", attack=("T1554", "T1574.006", "T1546.018"), weaknesses=(),
)  # fmt: skip
_DOWNGRADE = Event(
    title="", severity=Severity.CRITICAL, ocsf_class=CONFIGURATION, ocsf_activity=1, ocsf_severity=4,
    category=("configuration",), type=("change",), cef_severity=8, attack=("T1562.010", "T1562.001"),
)  # fmt: skip
_TAMPERED = Event(
    title="", severity=Severity.ALERT, is_alarm=True, ocsf_class=EVENT_LOG, ocsf_activity=2,
    ocsf_severity=5, category=("host", _DETECTED), type=("deletion",), cef_severity=9,
    attack=("T1070.002", "T1562.006"), weaknesses=("CWE-778",),
)  # fmt: skip
_OPERATOR = Event(
    title="", severity=Severity.WARNING, ocsf_class=API, ocsf_activity=3, ocsf_severity=2,
    category=("configuration", "iam"), type=("change", "admin"), outcome="success", cef_severity=6,
    attack=("T1485", "T1489"),
)  # fmt: skip
_SCHEDULE = replace(
    _OPERATOR, ocsf_class=JOB, ocsf_activity=2, category=("configuration",), type=("change",),
    cef_severity=5, attack=("T1053",),
)  # fmt: skip
_LIFE = Event(
    title="", severity=Severity.NOTICE, ocsf_class=LIFECYCLE, ocsf_activity=3, ocsf_severity=1,
    category=("process",), type=("start",), outcome="success", cef_severity=2,
)  # fmt: skip
_END = replace(_LIFE, ocsf_activity=4, type=("end",))
_COMPLIES = Event(
    title="", severity=Severity.INFO, ocsf_class=COMPLIANCE, ocsf_activity=1, ocsf_severity=1,
    category=("configuration",), type=("info",), outcome="success", cef_severity=1,
)  # fmt: skip
_NOTED = replace(
    _COMPLIES, severity=Severity.NOTICE, ocsf_severity=2, cef_severity=3, outcome="unknown"
)
_FAILS = replace(
    _COMPLIES, severity=Severity.ERROR, ocsf_severity=3, cef_severity=6, outcome="failure"
)
_TROUBLE = Event(
    title="", severity=Severity.ERROR, ocsf_class=LIFECYCLE, ocsf_activity=OTHER_ACTIVITY, ocsf_severity=3,
    category=("process",), type=("error",), outcome="failure", cef_severity=5,
)  # fmt: skip
_FLOOD = Event(
    title="", severity=Severity.CRITICAL, is_alarm=True, ocsf_class=API, ocsf_activity=OTHER_ACTIVITY,
    ocsf_severity=4, category=(_DETECTED, "network"), type=("denied",), outcome="failure",
    cef_severity=8, attack=("T1499",), weaknesses=("CWE-400",),
)  # fmt: skip

_TABLE: tuple[tuple[Event, Mapping[str, str]], ...] = (
    (_FORGED, {
        "message.signature_invalid": "A signature does not fit its message",
        "message.unsigned": "A message has no signature",
        "message.not_accepted": "A message is of a form that is not accepted",
        "message.body_changed": "The body of a message is not what was signed",
        "message.wrong_kind": "A signed message was used as one of another kind",
        "message.wrong_request": "A result is not of what was asked for",
        "message.wrong_input": "An input is not the result that a task waits for",
        "message.wrong_id": "A message lies under the id of another",
        "beat.note_refused": "A note of a beat was not believed",
    }),
    (_STRANGER, {
        "message.signer_unknown": "A message was signed by somebody who is not trusted",
        "message.key_unknown": "A message was sealed to a key that is not ours",
    }),
    (_COPIED, {
        "message.replay": "A message was sent a second time",
        "message.before_epoch": "A message is older than what is remembered",
        "replay.set_back": "The replay store was set back to an older state",
        "replay.epoch": "A replay store was looked at for the first time",
        "replay.epoch_changed": "The replay store has lost what it knew",
    }),
    (_STALE, {
        "message.expired": "A message came too late",
        "message.not_yet_valid": "A message was signed in the future",
    }),
    (_MISDIRECTED, {
        "message.wrong_audience": "A message was meant for others",
        "message.not_encrypted": "A message was not sealed",
        "message.undecryptable": "A message could not be opened",
        "cert.expired": "A message's certificate has ended",
        "cert.not_yet_valid": "A message's certificate does not begin yet",
    }),
    (replace(_MISDIRECTED, ocsf_severity=4, weaknesses=("CWE-299",)), {
        "cert.revoked": "A message was signed with a revoked certificate",
    }),
    (_BROKEN, {
        "message.malformed": "A message could not be read",
        "message.too_large": "A message was too large",
        "message.too_many_sessions": "Too many sessions were begun",
        "message.repeated": "A message came again after its end",
        "control.dropped": "A command was dropped, because there were too many",
        "quarantine.overflow": "The quarantine was full, and messages were deleted",
    }),
    (replace(_CODE, ocsf_class=API, attack=("T1059.006",), weaknesses=("CWE-502",)), {
        "message.unsafe_serializer": "A message was written in a way that is not allowed",
    }),
    (_CODE, {"sandbox.violation": "A task tried what its sandbox forbids"}),
    (_UNAUTHORIZED, {
        "task.unauthorized": "A task was asked for by somebody who may not",
        "signer.refused": "A signer refused to sign",
    }),
    (replace(_UNAUTHORIZED, severity=Severity.WARNING, ocsf_severity=3, cef_severity=5, attack=("T1595",)), {
        "task.unknown": "A task was asked for that does not exist",
    }),
    (_FLOOD, {"messages.refused_often": "Many messages were refused within a short time"}),
    (_DRIFT, {"integrity.drift": "A file is not what its baseline says"}),
    (replace(_DRIFT, ocsf_class=MODULE, ocsf_activity=1, category=("library",), type=("denied",)), {
        "integrity.import_blocked": "A module was not imported, because it was changed",
    }),
    (replace(_DRIFT, category=("configuration", _DETECTED), attack=("T1553",), weaknesses=("CWE-347",)), {
        "integrity.baseline_invalid": "A baseline is not signed by who should have",
        "integrity.rollback": "A baseline is older than one that was seen",
    }),
    (_COMPLIES, {
        "integrity.check_ok": "All files are what the baseline says",
        "doctor.mended": "A check of the deployment fails no more",
    }),
    (_FAILS, {
        "integrity.watch_failed": "Files could not be checked",
        "integrity.overdue": "Files were not checked in time",
        "audit.testimony_refused": "What is said of an audit log is not believed",
        "firewall.unchecked": "The rules of the firewall could not be checked",
        "firewall.canary_blind": "A canary cannot tell whether ports are filtered",
        "doctor.finding": "A check of the deployment has failed",
    }),
    (_NOTED, {
        "integrity.baseline": "Files are checked against a baseline",
        "doctor.waived": "A failed check of the deployment is waived",
        "doctor.canaries": "Messages were sent that workers must refuse",
        "certificate.expiring": "A certificate ends soon, or has ended",
        "keyset.expires_soon": "A keyset ends soon",
        "trust.reloaded": "Who is trusted was read again",
        "identity.reloaded": "The own identity was read again",
        "keyset.reloaded": "The keyset was read again",
    }),
    (_DOWNGRADE, {
        "config.unsafe": "A setting weakens the deployment",
        "config.downgrade": "A setting is weaker than it was",
        "identity.reload_refused": "The own identity could not be read again",
        "trust.reload_refused": "Who is trusted could not be read again",
        "trust.file_skipped": "A file of the trust store was left out",
        "policy.reload_refused": "The policy could not be read again",
        "keyset.reload_refused": "The keyset could not be read again",
        "keyset.key_refused": "A key of the keyset was refused",
        "keyset.not_remembered": "What was seen of the keyset could not be noted",
    }),
    (replace(_DOWNGRADE, category=("configuration", "network"), attack=("T1562.004",)), {
        "firewall.changed": "The rules of the firewall were changed",
        "firewall.absent": "There is no firewall",
        "firewall.port_exposed": "A port that must be closed has answered",
    }),
    (replace(_NOTED, category=("configuration", "network")), {
        "firewall.loaded": "The rules of the firewall were loaded",
        "firewall.restored": "The rules of the firewall are as they should be again",
        "firewall.port_filtered": "A port that has answered is filtered again",
        "firewall.canary": "A canary looks whether ports are filtered",
    }),
    (_TAMPERED, {
        "audit.gap": "Audit records are missing",
        "audit.torn": "An audit record was not written whole",
        "audit.rollback": "The audit log is older than it was",
        "audit.fork": "There are two audit logs with one history",
        "clock.jumped": "The clock was set",
    }),
    (replace(_TAMPERED, cef_severity=10, attack=("T1070.002", "T1565.001")), {
        "audit.chain_broken": "An audit record was changed",
    }),
    (replace(_COMPLIES, ocsf_class=EVENT_LOG, ocsf_activity=3, category=("host",), cef_severity=0), {
        "audit.checkpoint": "The audit log was signed up to here",
        "audit.begin": "A file of the audit log began",
        "audit.resumed": "The audit log can be written again",
    }),
    (_OPERATOR, {
        "integrity.baseline_made": "A new baseline of files was made",
        "operator.command": "An operator sent a command",
        "operator.revoke": "An operator revoked tasks",
        "operator.purge": "An operator deleted messages",
        "operator.migrate": "An operator moved messages to another broker",
        "operator.accept_old": "An operator accepted messages of a time that is forgotten",
        "operator.renew_epoch": "An operator had all older messages looked at first",
        "control.command": "A worker carried out a command",
        "policy.reloaded": "Who may do what was read again",
        "task.revoked": "A task was revoked",
    }),
    (replace(_OPERATOR, ocsf_class=ENTITY, category=("iam",), attack=()), {
        "certificate.authority_made": "An operator made an authority",
        "certificate.issued": "An operator issued a certificate",
        "certificate.imported": "An operator imported a certificate",
        "certificate.renewed": "An operator renewed a certificate",
        "certificate.revoked": "An operator revoked a certificate",
        "certificate.restored": "An operator took a revocation back",
        "certificate.list_signed": "An operator signed a list of revocations",
    }),
    (_SCHEDULE, {
        "schedule.add": "An entry of the schedule was added",
        "schedule.replace": "An entry of the schedule was replaced",
        "schedule.remove": "An entry of the schedule was removed",
        "schedule.run": "An entry of the schedule was run by hand",
        "schedule.pause": "An entry of the schedule was paused",
        "schedule.resume": "An entry of the schedule was resumed",
    }),
    (_LIFE, {
        "worker.start": "A worker has begun",
        "beat.start": "A beat has begun",
        "bridge.start": "A bridge has begun",
        "signer.start": "A signer has begun",
    }),
    (_END, {
        "worker.stop": "A worker has ended",
        "worker.drained": "A worker takes no more tasks, because its host was changed",
        "worker.unsubscribe": "A worker has left its broadcast queues",
        "bridge.stop": "A bridge has ended",
        "signer.stop": "A signer has ended",
        "syslog.test": "A test of syslog",
    }),
    (replace(_COMPLIES, ocsf_class=API, category=("api",), type=("allowed",)), {
        "task.accepted": "A task was verified, and is about to run",
    }),
    (replace(_COMPLIES, ocsf_class=JOB, ocsf_activity=5, category=("process",), type=("end",), outcome="unknown"), {
        "task.ended": "A task has ended, or goes on",
    }),
    (_TROUBLE, {
        "worker.stuck": "A loop of a worker makes no progress",
        "worker.subscription_lost": "A worker has lost a broadcast queue",
        "task.process_lost": "A task has lost its process",
        "task.lease_lost": "A task was taken over by another worker",
        "task.dead_letter": "A task could not be completed",
        "task.orphaned": "A task has lost what it belonged to",
        "beat.missed": "Times of a schedule were missed",
        "beat.failed": "An entry of a schedule could not be sent",
    }),
)  # fmt: skip

EVENTS: Mapping[str, Event] = MappingProxyType(
    {name: replace(kind, title=title) for kind, rows in _TABLE for name, title in rows.items()}
)
"""By name."""

UNKNOWN = replace(_NOTED, title="An event that the catalogue does not have")


def find_event(name: str) -> Event:
    """The event of a name; of one that is not in the table, what can be said of any."""
    return EVENTS.get(name, UNKNOWN)
