"""On a host that is set up well in every way at once, all checks together find nothing."""

from __future__ import annotations

from cardoon.doctor.catalogue import select
from cardoon.doctor.check import Severity, State
from cardoon.doctor.examining import examine, score
from tests.unit.doctor.cases import SYSTEMD, UNIT
from tests.unit.doctor.hosts import DAY, DROPPING, NOW, REDIS, Host, certificate

KERNEL = {
    "fs.protected_hardlinks": 1,
    "fs.protected_symlinks": 1,
    "fs.suid_dumpable": 0,
    "kernel.core_pattern": "core",
    "kernel.dmesg_restrict": 1,
    "kernel.kptr_restrict": 1,
    "kernel.randomize_va_space": 2,
    "kernel.unprivileged_bpf_disabled": 2,
    "kernel.yama.ptrace_scope": 1,
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
}


def harden(host):
    host.certify(days=300)
    (host.state / "ca.key").unlink()
    host.policy("shop.*")
    host.set(
        security_encrypt="body",
        security_require_encryption=True,
        security_domain="shop-production",
        worker_pool="isolated",
        worker_sandbox={"level": "confined"},
        task_time_limit=60,
        syslog_address="tls://log.example:6514",
        integrity_baseline="baseline.json",
        integrity_key="signer.pem",
        firewall_check_interval=60,
        worker_metrics_address="127.0.0.1:9464",
    )
    host.serve(
        certificate=certificate(days=300),
        plaintext=False,
        open_to_all=False,
        guest=False,
        old_tls=False,
        demands_certificate=True,
        product="redis",
        version="8.6.3",
        eviction="noeviction",
        persistent=True,
    )
    url = host.file("broker", REDIS)
    host.set(broker_url=f"file:{url}")
    host.process()
    host.limits(0, 0)
    for name, value in KERNEL.items():
        host.kernel(name, value)
    host.put("/proc/swaps", "head\n")
    host.put("/proc/net/if_inet6", "fe800000000000000000000000000001 02 40 20 80 eth0\n")
    host.listen(("127.0.0.1", 6379), ("0.0.0.0", 22, 0))
    host.put(SYSTEMD, UNIT)
    host.rules(DROPPING)
    host.layers()
    host.tell(
        environ={"TMPDIR": host.folder_of("tmp", 0o700)},
        sys_path=[host.folder_of("code")],
        folder=host.folder_of("app"),
        openssl="OpenSSL 3.5.1 1 Jul 2025",
        packages=lambda: {"urllib3": "2.7.0"},
        connects=lambda *place: place == ("log.example", 6514),
        chain=lambda _: [],
        approved=lambda: NOW - DAY,
        synchronised=lambda: True,
        free=lambda _: (500, 1000),
    )


def test_nothing_above_info_is_open_and_nothing_is_unchecked(tmp_path):
    tmp_path.chmod(0o755)
    host = Host(tmp_path)
    harden(host)

    verdicts = examine(host.scene(), select(deploy=True))

    # Who runs this decides whose the folders are.
    by_user = {"PRC-01", "COD-01", "NET-03"}
    told = {
        one.check.id: one.evidence
        for one in verdicts
        if one.state in {State.FINDING, State.UNCHECKED}
        and one.check.severity is not Severity.INFO
        and one.check.id not in by_user
    }
    assert told == {}
    assert score([one for one in verdicts if one.check.id not in by_user]) == 100
    assert sum(one.state is State.OK for one in verdicts) >= 60
