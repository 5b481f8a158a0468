"""The settings of what notices intruders; docs/configuration.md explains each one to users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cardoon.network_place import addresses, hosts, places
from cardoon.option import boolean, choice, integer, names, seconds, text
from cardoon.setting import setting
from cardoon.syslog_target import FACILITIES, FORMATS, syslog_addresses, syslog_tls


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DetectionSettings:
    """Audit log, syslog, file integrity, doctor and firewall."""

    # The audit log.
    security_audit_log: str = setting("", text)
    security_audit_level: str = setting("refusals", choice("refusals", "tasks"))
    security_audit_checkpoint_records: int = setting(256, integer(1, 1_000_000))
    security_audit_checkpoint_seconds: float = setting(5.0, seconds(0.1, 86_400.0))
    security_audit_epoch_seconds: float = setting(3600.0, seconds(1.0, 31_536_000.0))
    security_audit_witness_interval: float = setting(30.0, seconds(0, 86_400.0))
    security_audit_max_bytes: int = setting(64 * 2**20, integer(0, 2**50))
    security_audit_rotate_after: float = setting(0.0, seconds(0, 31_536_000.0))
    security_audit_required: bool = setting(default=False, parse=boolean)
    security_audit_keep: int = setting(16, integer(0, 1_000_000))

    # firewall
    firewall_role: str = setting("worker", choice("worker", "broker", "both"))
    firewall_peers: tuple[str, ...] = setting((), hosts)
    firewall_allow: tuple[str, ...] = setting((), places)
    firewall_open: tuple[str, ...] = setting((), places)
    firewall_dns: tuple[str, ...] = setting((), addresses)
    firewall_users: tuple[str, ...] = setting((), names)
    firewall_check_interval: float = setting(0.0, seconds(0, 86_400))
    firewall_on_change: str = setting("alert", choice("alert", "drain", "stop"))
    firewall_state: str = setting("", text)

    # File integrity
    integrity_baseline: str = setting("", text)
    integrity_key: tuple[str, ...] = setting((), names)
    integrity_rules: str = setting("", text)
    integrity_imports: str = setting("off", choice("off", "record", "covered", "refuse"))
    integrity_loaded: str = setting("covered", choice("off", "covered", "all"))
    integrity_on_drift: str = setting("alert", choice("alert", "drain", "stop"))
    integrity_check_interval: float = setting(3600.0, seconds(1, 30 * 86400))
    integrity_watch: bool = setting(False, boolean)

    # Syslog
    syslog_address: tuple[str, ...] = setting((), syslog_addresses)
    syslog_tls: Mapping[str, Any] = setting({}, syslog_tls, secret=True)
    syslog_facility: str = setting("daemon", choice(*FACILITIES))
    syslog_security_facility: str = setting("authpriv", choice(*FACILITIES))
    syslog_level: str = setting("info", choice("debug", "info", "warning", "error", "critical"))
    syslog_task_rate: int = setting(200, integer(0, 100_000))
    syslog_format: str = setting("rfc5424", choice(*FORMATS))
    syslog_enterprise_number: int = setting(32473, integer(1, (1 << 32) - 1))
    syslog_fold_seconds: float = setting(10.0, seconds(0, 3600))
    syslog_queue_size: int = setting(10_000, integer(100, 1_000_000))
    syslog_spool: str = setting("", text)
    syslog_spool_bytes: int = setting(64 << 20, integer(1 << 20, 1 << 40))
    unsafe_allow_plaintext_syslog: bool = setting(False, boolean)

    # doctor
    doctor_require: str = setting("", choice("", "high", "critical"))
    doctor_interval: float = setting(0.0, seconds(0, 30 * 86400))
