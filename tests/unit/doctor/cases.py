"""A bad host and a good one for each check: what makes the one bad, and the other good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from cardoon.firewall import judging as firewall
from cardoon.firewall.judging import Verdict
from cardoon.firewall.table import Difference
from cardoon.transparency.verifying import Finding, Flaw
from tests.unit.doctor.hosts import DAY, DROPPING, NOW, POSTGRES, RABBIT, REDIS, Host, certificate

Arrange = Callable[[Host], object]
UNIT = """\
[Service]
User=cardoon-worker
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
MemoryDenyWriteExecute=yes
SystemCallFilter=@system-service
"""
SYSTEMD = "/etc/systemd/system/cardoon-worker@.service"
SOMEBODY = 4321
LINK_LOCAL = "fe800000000000000000000000000001 02 40 20 80 eth0\n"
CONFINED = {"worker_pool": "isolated", "worker_sandbox": {"level": "confined"}}


def setting(**settings: object) -> Arrange:
    return lambda host: host.set(**settings)


def shared(**settings: object) -> Arrange:
    return lambda host: host.set(broker_url=REDIS, **settings)


def serving(url: str = REDIS, **facts: object) -> Arrange:
    return lambda host: host.serve(url, **facts)


def both(*arrange: Arrange) -> Arrange:
    return lambda host: [one(host) for one in arrange]


def sysctl(name: str, value: object) -> Arrange:
    return lambda host: host.kernel(name, value)


def listening(*told: tuple[object, ...], **known: object) -> Arrange:
    return lambda host: (host.listen(*told), host.tell(**known))


def approved(when: Callable[[], float]) -> Arrange:
    both_set = setting(integrity_baseline="b.json", integrity_key="k.pem")
    return both(both_set, lambda host: host.tell(approved=when))


def watched(verdict: Verdict) -> Arrange:
    watching = setting(firewall_check_interval=60, firewall_state="/run/state.json")
    found = firewall.Finding(
        verdict, differences=(Difference("rule-missing", "input", "flushed"),), reason="stale"
    )
    return both(watching, lambda host: host.tell(rules=lambda: found))


def answering(answer: bool) -> Arrange:
    servers = setting(syslog_address=["udp://10.0.0.9", "tls://log.example:6514"])
    takes = {("log.example", 6514): answer}
    return both(servers, lambda host: host.tell(connects=lambda *place: takes[place]))


def key(mode: int) -> Arrange:
    return lambda host: host.set(security_key=host.file("worker.key", mode=mode))


def on_path(mode: int, **files: str) -> Arrange:
    def arrange(host: Host) -> None:
        folder = host.folder_of("site", mode)
        for name, text in files.items():
            host.file(f"site/{name.replace('_dot_', '.')}", text)
        host.tell(sys_path=[folder], uid=Path(folder).stat().st_uid or SOMEBODY)

    return arrange


def installed(**versions: str) -> Arrange:
    return lambda host: host.tell(packages=lambda: versions)


def same_key_twice(host: Host) -> None:
    host.certify(days=300)
    shutil.copy(host.state / "worker.pem", host.state / "web.pem")


def owned(host: Host, *, ours: bool) -> None:
    folder = host.folder_of("site")
    owner = Path(folder).stat().st_uid
    host.tell(sys_path=[folder], uid=(owner or SOMEBODY) if ours else SOMEBODY)
    if ours and owner == 0:
        os.chown(folder, SOMEBODY, -1)
    elif not ours and owner == SOMEBODY:
        host.tell(uid=SOMEBODY + 1)


CASES: Mapping[str, tuple[Arrange, Arrange]] = {
    "BRK-01": (setting(broker_url="redis://broker.example"), setting(broker_url=REDIS)),
    "BRK-02": (serving(open_to_all=True), serving(open_to_all=False)),
    "BRK-03": (
        both(serving(RABBIT, guest=False), setting(broker_url="amqps://guest:guest@b.example")),
        serving(RABBIT, guest=False),
    ),
    "BRK-04": (
        lambda host: host.serve(certificate=certificate(days=5)),
        lambda host: host.serve(certificate=certificate(days=300)),
    ),
    "BRK-05": (serving(old_tls=True), serving(old_tls=False)),
    "BRK-06": (serving(demands_certificate=False), serving(demands_certificate=True)),
    "BRK-07": (
        setting(broker_url=f"{REDIS}?ssl_cert_reqs=none"),
        setting(broker_url=f"{REDIS}?ssl_cert_reqs=required"),
    ),
    "BRK-08": (serving(plaintext=True), serving(plaintext=False)),
    "BRK-09": (
        both(listening(("0.0.0.0", 6379)), setting(broker_url="redis://localhost:6379")),
        both(listening(("127.0.0.1", 6379)), setting(broker_url="redis://localhost:6379")),
    ),
    "BRK-10": (listening(("10.0.0.5", 15672)), listening(("127.0.0.1", 15672))),
    "BRK-11": (
        serving(product="redis", version="7.4.5"),
        serving(product="redis", version="7.4.6"),
    ),
    "BRK-12": (serving(error="no answer"), serving()),
    "RED-01": (setting(broker_url="rediss://:secret@broker.example"), setting(broker_url=REDIS)),
    "RED-02": (serving(may=("MODULE LIST",)), serving(may=())),
    "RED-03": (serving(reaches=("keys of others",)), serving(reaches=())),
    "RED-04": (serving(eviction="allkeys-lru"), serving(eviction="noeviction")),
    "RED-05": (serving(persistent=False), serving(persistent=True)),
    "RMQ-01": (serving(RABBIT, attributes=("administrator",)), serving(RABBIT)),
    "RMQ-02": (serving(RABBIT, reaches=("a queue of others",)), serving(RABBIT)),
    "RMQ-03": (setting(broker_url="amqps://worker:x@b.example/"), setting(broker_url=RABBIT)),
    "PG-01": (serving(POSTGRES, attributes=("super",)), serving(POSTGRES)),
    "PG-02": (serving(POSTGRES, session_tls=False), serving(POSTGRES, session_tls=True)),
    "PG-03": (serving(POSTGRES, method="md5"), serving(POSTGRES, method="scram-sha-256")),
    "PG-04": (
        serving(POSTGRES, creates_in_public=True),
        serving(POSTGRES, creates_in_public=False),
    ),
    "MSG-01": (
        setting(accept_content=["json"], task_serializer="json"),
        setting(accept_content=["auth"]),
    ),
    "MSG-02": (shared(), both(shared(), lambda host: host.policy("shop.*"))),
    "MSG-03": (setting(security_max_age=30 * 86_400), setting(security_max_age=3600)),
    "MSG-04": (shared(), shared(security_encrypt="body")),
    "MSG-05": (setting(result_expires=None), setting(result_expires=3600)),
    "MSG-06": (
        setting(accept_content=["auth", "pickle"], unsafe_allow_pickle=True),
        setting(accept_content=["auth", "msgpack"]),
    ),
    "MSG-07": (lambda host: host.policy("**"), lambda host: host.policy("shop.*")),
    "MSG-08": (
        setting(security_encrypt="body"),
        setting(security_encrypt="body", security_require_encryption=True),
    ),
    "MSG-09": (
        setting(unsafe_celery_bridge={"queues": ["a"], "tasks": ["shop.*"]}),
        setting(unsafe_celery_bridge={}),
    ),
    "MSG-10": (shared(), shared(security_domain="shop-production")),
    "MSG-11": (setting(message_max_bytes=128 << 20), setting(message_max_bytes=8 << 20)),
    "MSG-12": (
        lambda host: host.policy("shop.*", mode=0o666),
        lambda host: host.policy("shop.*", mode=0o644),
    ),
    "KEY-01": (key(0o640), key(0o600)),
    "KEY-02": (both(shared(), lambda host: host.certify(days=300)), shared()),
    "KEY-03": (lambda host: host.certify(days=3), lambda host: host.certify(days=300)),
    "KEY-04": (same_key_twice, lambda host: host.certify(days=300)),
    "KEY-05": (
        both(lambda host: host.certify(days=300), lambda host: host.list_revoked(days=-2)),
        both(lambda host: host.certify(days=300), lambda host: host.list_revoked(days=90)),
    ),
    "KEY-06": (setting(broker_url=REDIS), setting(broker_url="file:/run/credentials/broker")),
    "KEY-07": (lambda host: host.state.chmod(0o750), lambda host: host.state.chmod(0o700)),
    "KEY-08": (
        lambda host: host.set(security_cert_store=[host.folder_of("trusted", 0o777)]),
        lambda host: host.set(security_cert_store=[host.folder_of("trusted", 0o755)]),
    ),
    "KEY-09": (key(0o600), setting(security_key="unix:/run/signer.sock")),
    "KEY-10": (
        lambda host: host.set(security_keyset=Path(host.file("keyset/01.key", mode=0o644)).parent),
        lambda host: host.set(security_keyset=Path(host.file("keyset/01.key", mode=0o600)).parent),
    ),
    "COD-01": (lambda host: owned(host, ours=True), lambda host: owned(host, ours=False)),
    "COD-02": (on_path(0o777), on_path(0o755)),
    "COD-04": (
        on_path(0o755, odd_dot_pth="import os; os.getpid()\n"),
        on_path(0o755, plain_dot_pth="/srv/more\n"),
    ),
    "COD-05": (installed(urllib3="1.26.5"), installed(urllib3="2.7.0")),
    "COD-06": (
        lambda host: host.tell(openssl="OpenSSL 1.1.1w  11 Sep 2023"),
        lambda host: host.tell(openssl="OpenSSL 3.5.1 1 Jul 2025"),
    ),
    "COD-07": (
        lambda host: host.tell(user_site=host.folder_of("own")),
        lambda host: host.tell(user_site=""),
    ),
    "COD-08": (
        lambda host: host.tell(folder=host.folder_of("app", 0o777)),
        lambda host: host.tell(folder=host.folder_of("app", 0o755)),
    ),
    "PRC-01": (lambda host: host.tell(uid=0), lambda host: host.tell(uid=SOMEBODY)),
    "PRC-02": (
        lambda host: host.process(CapEff="0000000000000400"),
        lambda host: host.process(),
    ),
    "PRC-03": (setting(worker_pool="prefork"), setting(**CONFINED)),
    "PRC-04": (
        lambda host: host.limits("unlimited", "unlimited"),
        lambda host: host.limits("0", "0"),
    ),
    "PRC-05": (
        sysctl("kernel.yama.ptrace_scope", 0),
        sysctl("kernel.yama.ptrace_scope", 1),
    ),
    "PRC-06": (
        lambda host: host.tell(environ={"LD_PRELOAD": "/tmp/x.so"}),
        lambda host: host.tell(environ={"PATH": "/usr/bin"}),
    ),
    "PRC-07": (
        lambda host: host.put(SYSTEMD, "[Service]\nUser=cardoon-worker\n"),
        lambda host: host.put(SYSTEMD, UNIT),
    ),
    "PRC-08": (
        lambda host: host.put("/proc/swaps", "head\n/dev/sda2 partition 1 0 -2\n"),
        lambda host: host.put("/proc/swaps", "head\n/dev/zram0 partition 1 0 -2\n"),
    ),
    "PRC-09": (lambda host: host.process(Umask="0022"), lambda host: host.process()),
    "PRC-10": (lambda host: host.process(NoNewPrivs="0"), lambda host: host.process()),
    "PRC-11": (
        both(setting(**CONFINED), lambda host: host.layers("landlock")),
        both(setting(**CONFINED), lambda host: host.layers()),
    ),
    "PRC-12": (setting(unsafe_sandbox_best_effort=True), setting()),
    "PRC-13": (sysctl("kernel.dmesg_restrict", 0), sysctl("kernel.dmesg_restrict", 1)),
    "PRC-14": (sysctl("fs.protected_symlinks", 0), sysctl("fs.protected_symlinks", 1)),
    "PRC-15": (setting(task_time_limit=None), setting(task_time_limit=60)),
    "PRC-16": (
        setting(worker_pass_environment=["DB_PASSWORD"]),
        setting(worker_pass_environment=["LANG"]),
    ),
    "PRC-17": (
        sysctl("kernel.randomize_va_space", 1),
        sysctl("kernel.randomize_va_space", 2),
    ),
    "PRC-18": (
        lambda host: host.tell(environ={"TMPDIR": host.folder_of("tmp", 0o777)}),
        lambda host: host.tell(environ={"TMPDIR": host.folder_of("tmp", 0o1777)}),
    ),
    "NET-01": (lambda host: host.rules(""), lambda host: host.rules(DROPPING)),
    "NET-03": (
        listening(("0.0.0.0", 4444, SOMEBODY), uid=SOMEBODY),
        listening(("127.0.0.1", 4444, SOMEBODY), ("0.0.0.0", 22, 0), uid=SOMEBODY),
    ),
    "NET-04": (
        lambda host: host.tell(connects=lambda *_: True),
        lambda host: host.tell(connects=lambda *_: False),
    ),
    "NET-05": (
        both(
            lambda host: host.put("/proc/net/if_inet6", LINK_LOCAL),
            lambda host: host.rules(DROPPING.replace("inet", "ip")),
        ),
        both(
            lambda host: host.put("/proc/net/if_inet6", LINK_LOCAL),
            lambda host: host.rules(DROPPING),
        ),
    ),
    "NET-06": (
        sysctl("net.ipv4.conf.all.accept_redirects", 1),
        sysctl("net.ipv4.conf.all.accept_redirects", 0),
    ),
    "LOG-01": (setting(), setting(syslog_address="tls://log.example:6514")),
    "LOG-02": (setting(unsafe_allow_plaintext_syslog=True), setting()),
    "COD-03": (
        setting(integrity_baseline="b.json"),
        setting(integrity_baseline="b.json", integrity_key="k.pem"),
    ),
    "COD-09": (
        approved(lambda: NOW - 200 * DAY),
        approved(lambda: NOW - 100 * DAY),
    ),
    "NET-02": (setting(), watched(Verdict.OK)),
    "LOG-03": (
        lambda host: host.tell(chain=lambda _: [Finding(Flaw.CHANGED, "another hash", 7)]),
        lambda host: host.tell(chain=lambda _: [Finding(Flaw.TORN, "no end")]),
    ),
    "LOG-08": (answering(False), answering(True)),
    "LOG-04": (
        lambda host: host.set(security_audit_log=host.file("audit.jsonl", mode=0o644)),
        lambda host: host.set(security_audit_log=host.file("audit.jsonl", mode=0o600)),
    ),
    "LOG-05": (setting(result_extended=True), setting(result_extended=False)),
    "LOG-06": (
        lambda host: host.tell(free=lambda _: (1, 1000)),
        lambda host: host.tell(free=lambda _: (500, 1000)),
    ),
    "LOG-07": (setting(worker_pool="prefork"), setting(**CONFINED)),
    "CTL-01": (shared(), shared(worker_enable_remote_control=False)),
    "CTL-02": (
        setting(worker_metrics_address="0.0.0.0:9464"),
        setting(worker_metrics_address="0.0.0.0:9464", worker_metrics_token="file:/run/token"),
    ),
    "CTL-03": (
        setting(worker_metrics_address="10.0.0.5:9464"),
        setting(worker_metrics_address="127.0.0.1:9464"),
    ),
    "CTL-04": (listening(("0.0.0.0", 5555)), listening(("127.0.0.1", 5555))),
    "CTL-05": (
        lambda host: host.tell(synchronised=lambda: False),
        lambda host: host.tell(synchronised=lambda: True),
    ),
    "CFG-02": (
        lambda host: host.tell(environ={"CARDOON_SECURITY_POLICI": "p.toml"}),
        lambda host: host.tell(environ={"CARDOON_SECURITY_POLICY": "p.toml"}),
    ),
    "CFG-03": (setting(task_always_eager=True), setting(task_always_eager=False)),
    "CFG-04": (
        setting(state_directory="/tmp/cardoon"),
        setting(state_directory="/var/lib/cardoon"),
    ),
    "CFG-05": (setting(unsafe_allow_eviction=True), setting(unsafe_allow_eviction=False)),
    "CFG-07": (
        lambda host: host.tell(complaints=["a waiver of MSG-01 does not count"]),
        lambda host: host.tell(complaints=[]),
    ),
    "CFG-06": (setting(task_max_crashes=50), setting(task_max_crashes=3)),
}
