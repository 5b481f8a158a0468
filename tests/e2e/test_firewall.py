"""Our rules in a real kernel: two hosts, each a network namespace, with a link between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cardoon.firewall.judging import Finding, Verdict
from cardoon.firewall.state import write_state
from cardoon.firewall.table import Difference
from tests.e2e.conftest import DEADLINE
from tests.servers.ground import find_program, lacking
from tests.servers.hosts import wired

SERVE = """
import socket, sys, threading
held = []
for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    for port in map(int, sys.argv[1:]):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen()
        held.append(made)
print("ready", flush=True)
sys.stdin.read()
"""
REACH = """
import errno, socket, sys
host, port, source, patience = sys.argv[1:]
try:
    socket.create_connection((host, int(port)), timeout=float(patience), source_address=(source, 0) if source else None).close()
    print("reached")
except TimeoutError:
    print("filtered")
except OSError as error:
    print("rejected" if error.errno in (errno.EHOSTUNREACH, errno.EACCES) else error)
"""


class Hosts:
    """A broker's host at 198.51.100.1 and fd77::1, and a worker's at .2, .3 and ::2, ::3."""

    def __init__(self, folder, broker, worker):
        self.folder = folder
        self._hosts = {"broker": broker, "worker": worker}
        self._servers = []

    def open(self):
        """Give them the rest of their addresses, and start what listens there."""
        for host, link, ends in (("broker", "switch", (1,)), ("worker", "wire", (2, 3))):
            name = self._hosts[host].name
            for end in ends:
                ip("-n", name, "addr", "add", f"fd77::{end}/64", "dev", link, "nodad")
        ip("-n", self._hosts["worker"].name, "addr", "add", "198.51.100.3/24", "dev", "wire")
        self._serve("broker", 5671, 7000)
        self._serve("worker", 7000)

    def command(self, host, *words):
        return self._hosts[host].command(*words)

    def run(self, host, *words):
        return self._hosts[host].run(*words, cwd=self.folder, env={**os.environ, "NO_COLOR": "1"})

    def cardoon(self, host, *words):
        return self.run(
            host,
            sys.executable,
            "-m",
            "cardoon",
            "--config",
            f"{host}_settings",
            "firewall",
            *words,
        )

    def check(self, host):
        """The verdict, the lines that say what differs, and the digest."""
        done = self.cardoon(host, "check", "--json")
        told = json.loads(done.stdout)
        assert done.returncode == (0 if told["verdict"] == "ok" else 1), done.stderr
        lines = [f"{one['kind']} {one['where']} {one['detail']}" for one in told["differences"]]
        return told["verdict"], lines, told["digest"]

    def nft(self, host, *words):
        done = self.run(host, find_program("nft"), *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def reach(self, host, target, port, source="", patience=0.5):
        return self.run(
            host, sys.executable, "-c", REACH, target, str(port), source, str(patience)
        ).stdout.strip()

    def _serve(self, host, *ports):
        command = self.command(host, sys.executable, "-c", SERVE)
        server = subprocess.Popen(
            [*command, *map(str, ports)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._servers.append(server)
        assert server.stdout.readline() == "ready\n"

    def close(self):
        for server in self._servers:
            server.communicate(timeout=30)


def ip(*words):
    done = subprocess.run([find_program("ip"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def has_privilege(folder):
    """Whether a network namespace can be made here, and rules in it."""
    if os.geteuid() != 0:
        return False
    command = ["unshare", "--net", find_program("nft"), "list", "tables"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode
    )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("firewall")
    for program in ("nft", "ip"):
        if not find_program(program):
            lacking(program)
    if not has_privilege(folder):
        lacking("nft, with the right to make rules in a network namespace (root),")
    (folder / "broker_settings.py").write_text(
        'broker_url = "amqps://localhost"\n'
        'firewall_role = "broker"\n'
        'firewall_peers = ["198.51.100.2", "fd77::2"]\n'
    )
    (folder / "worker_settings.py").write_text(
        'broker_url = "amqps://198.51.100.1;amqps://[fd77::1]"\n'
        'result_backend = "disabled://"\n'
        'security_audit_log = "audit.jsonl"\n'
    )
    with wired("broker", "worker") as ends:
        made = Hosts(folder, *ends)
        try:
            made.open()
            yield made
        finally:
            made.close()


@pytest.fixture
def guarded(hosts):
    """Both hosts with their rules loaded, as they should be."""
    for host in ("broker", "worker"):
        done = hosts.cardoon(host, "load")
        assert done.returncode == 0, done.stderr
    yield hosts
    for host in ("broker", "worker"):
        hosts.nft(host, "flush", "ruleset")


def test_a_peer_reaches_the_broker_and_others_do_not(hosts, guarded):
    assert hosts.reach("worker", "198.51.100.1", 5671, "198.51.100.2") == "reached"
    assert hosts.reach("worker", "fd77::1", 5671, "fd77::2") == "reached"
    assert hosts.reach("worker", "198.51.100.1", 5671, "198.51.100.3") == "filtered"
    assert hosts.reach("worker", "fd77::1", 5671, "fd77::3") == "filtered"


def test_a_worker_goes_nowhere_else_and_is_told_so(hosts, guarded):
    hosts.nft("broker", "flush", "ruleset")

    assert hosts.reach("worker", "198.51.100.1", 7000, patience=9) == "rejected"
    assert hosts.reach("worker", "fd77::1", 7000, patience=9) == "rejected"
    hosts.nft("worker", "flush", "ruleset")
    assert hosts.reach("worker", "198.51.100.1", 7000) == "reached"


def test_nobody_reaches_a_worker(hosts, guarded):
    assert hosts.reach("broker", "198.51.100.2", 7000) == "filtered"
    assert hosts.reach("broker", "fd77::2", 7000) == "filtered"


def test_traffic_changes_nothing_of_the_digest(hosts, guarded):
    verdict, _, before = hosts.check("worker")
    for _ in range(3):
        hosts.reach("worker", "198.51.100.1", 5671, "198.51.100.2")
    listed = hosts.nft("worker", "list", "table", "inet", "cardoon")

    assert 'packets 0 bytes 0 accept comment "broker_url"' in listed  # that of IPv6
    assert listed.count("packets 0") < listed.count("packets")
    assert (verdict, hosts.check("worker")) == ("ok", ("ok", [], before))


def test_what_is_printed_is_what_is_loaded(hosts, guarded):
    (hosts.folder / "printed.nft").write_text(hosts.cardoon("broker", "print").stdout)
    hosts.nft("broker", "flush", "ruleset")

    hosts.nft("broker", "-f", "printed.nft")

    assert hosts.check("broker")[0] == "ok"


def test_a_load_leaves_one_table_and_a_record(hosts, guarded):
    assert hosts.cardoon("worker", "load").returncode == 0
    digest = hosts.check("worker")[2]
    records = [json.loads(line) for line in (hosts.folder / "audit.jsonl").read_text().splitlines()]

    assert hosts.nft("worker", "list", "tables") == "table inet cardoon\n"
    assert [one["digest"] for one in records if one["event"] == "firewall.loaded"][-1] == digest


@pytest.mark.parametrize(
    ("words", "verdict", "lines"),
    [
        (["flush ruleset"], "absent", ["table-absent  no table inet cardoon is loaded"]),
        (
            ["insert rule inet cardoon input tcp dport 4444 accept"],
            "changed",
            ["rule-added input tcp dport 4444 accept"],
        ),
        (
            ["insert rule inet cardoon output meta skuid 0 accept"],
            "changed",
            ["rule-added output meta skuid 0 accept"],
        ),
        (
            ["add chain inet cardoon input { policy accept ; }"],
            "changed",
            ["policy-changed input accept instead of drop"],
        ),
        (["add table inet cardoon { flags dormant ; }"], "changed", ["table-flags  some are set, and a table that is dormant filters nothing"]),
        (
            ["add set inet cardoon s { type ipv4_addr ; }"],
            "changed",
            ['object-added  {"set":{"family":"inet","name":"s","table":"cardoon","type":"ipv4_addr"}}'],
        ),
        (["add chain inet cardoon x"], "changed", ["chain-added x 0 rules"]),
    ],
)  # fmt: skip
def test_tampering_is_named(hosts, guarded, words, verdict, lines):
    hosts.nft("worker", *words)

    assert hosts.check("worker")[:2] == (verdict, lines)


def test_a_rule_that_was_deleted_is_named(hosts, guarded):
    listed = hosts.nft("worker", "-a", "list", "table", "inet", "cardoon").splitlines()
    [handle] = [line.split()[-1] for line in listed if "ip6 daddr fd77::1" in line]
    hosts.nft("worker", "delete", "rule", "inet", "cardoon", "output", "handle", handle)

    assert hosts.check("worker")[:2] == (
        "changed",
        ["rule-missing output ip6 daddr fd77::1 tcp dport 5671 counter accept"],
    )


def test_a_flushed_chain_names_every_rule(hosts, guarded):
    hosts.nft("worker", "flush", "chain", "inet", "cardoon", "output")

    verdict, lines, _ = hosts.check("worker")

    assert verdict == "changed"
    assert {line.partition(" output ")[0] for line in lines} == {"rule-missing"}


def test_tables_of_others_are_told_beside_it(hosts, guarded):
    hosts.nft("worker", "add table ip theirs")
    hosts.nft(
        "worker", "add chain ip theirs x { type filter hook output priority -5 ; policy accept ; }"
    )

    done = hosts.cardoon("worker", "check")

    assert done.returncode == 0
    assert (
        "beside it: table ip theirs, chain x: hook output, priority -5, policy accept"
        in done.stdout
    )


def test_a_digest_that_was_kept_elsewhere_is_one_more_test(hosts, guarded):
    digest = hosts.check("worker")[2]

    assert hosts.cardoon("worker", "check", "--digest", digest).returncode == 0
    assert hosts.cardoon("worker", "check", "--digest", "ab" * 32).returncode == 1


def test_users_can_be_kept_in_alone(hosts, guarded):
    (hosts.folder / "broker_users.py").write_text(
        'broker_url = "amqps://[fd77::2]"\nfirewall_users = ["65534"]\n'
    )
    loaded = hosts.run(
        "broker", sys.executable, "-m", "cardoon", "--config", "broker_users", "firewall", "load"
    )
    assert loaded.returncode == 0, loaded.stderr
    hosts.nft("worker", "flush", "ruleset")
    user = ("setpriv", "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-I", "-c", REACH)

    assert hosts.run("broker", *user, "198.51.100.2", "7000", "", "9").stdout == "rejected\n"
    assert hosts.reach("broker", "198.51.100.2", 7000) == "reached"


@pytest.fixture
def guarded_site(site):
    """A worker in a network of its own with its rules loaded, who looks for them often."""
    if not has_privilege(site.folder):
        lacking("nft, with the right to make rules in a network namespace (root),")
    script = site.folder / "python"
    script.write_text(
        "#!/bin/sh\nexec unshare --net sh -c "
        f'\'{sys.executable} -m cardoon firewall load && exec {sys.executable} "$@"\' sh "$@"\n'
    )
    script.chmod(0o755)
    site.python = str(script)
    site.environment["CARDOON_FIREWALL_CHECK_INTERVAL"] = "0.1"
    return site


def enter(worker, *words):
    """Run a program in the network of a worker."""
    done = subprocess.run(
        ["nsenter", "--net", "--target", str(worker.pid), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def events(site, name):
    """Records of the audit trail whose event begins with this."""
    trail = site.folder / ".cardoon" / "audit.jsonl"
    found = map(json.loads, trail.read_text().splitlines()) if trail.exists() else ()
    return [one for one in found if one["event"].startswith(name)]


def test_a_worker_sees_that_its_rules_are_gone_and_stops(guarded_site):
    worker = guarded_site.start("-P", "prefork", env={"CARDOON_FIREWALL_ON_CHANGE": "stop"})
    held = guarded_site.send("hold", guarded_site.path("started"), guarded_site.path("gate"))
    guarded_site.until(lambda: guarded_site.lines("started"))

    enter(worker, find_program("nft"), "flush", "ruleset")

    assert worker.wait(DEADLINE) == 77
    [record] = events(guarded_site, "firewall.absent")
    assert record["action"] == "stop"
    assert held.state == "PENDING"  # and some other worker runs it
    assert record["source"] == "worker"


def test_a_worker_names_what_was_added_to_its_rules_and_takes_nothing_more(guarded_site):
    worker = guarded_site.start("-P", "prefork", env={"CARDOON_FIREWALL_ON_CHANGE": "drain"})
    held = guarded_site.send("hold", guarded_site.path("started"), guarded_site.path("gate"))
    guarded_site.until(lambda: guarded_site.lines("started"))

    rule = "insert rule inet cardoon input tcp dport 4444 accept"
    enter(worker, find_program("nft"), rule)
    guarded_site.until(lambda: events(guarded_site, "worker.drained"))
    Path(guarded_site.path("gate")).touch()

    assert held.get(timeout=DEADLINE) == "released"  # what it held, it ends
    [record] = events(guarded_site, "firewall.changed")
    assert record["detail"] == "rule-added in chain input: tcp dport 4444 accept"
    [name] = guarded_site.app.control.inspect(timeout=20, limit=1).ping()
    waiting = guarded_site.send("add", 2, 3)
    assert guarded_site.app.control.inspect(timeout=20, limit=1).active() == {name: []}
    assert waiting.state == "PENDING"
    assert worker.poll() is None


def test_a_worker_that_only_tells_goes_on_and_tells_when_all_is_well_again(guarded_site):
    worker = guarded_site.start("-P", "prefork")
    enter(worker, find_program("nft"), "flush", "ruleset")
    guarded_site.until(lambda: events(guarded_site, "firewall.absent"))

    assert guarded_site.call("add", 2, 3) == 5

    enter(
        worker,
        sys.executable,
        "-m",
        "cardoon",
        "--workdir",
        guarded_site.folder,
        "firewall",
        "load",
    )
    guarded_site.until(lambda: events(guarded_site, "firewall.restored"))


def test_a_worker_believes_what_root_has_written(site):
    if os.geteuid() != 0:
        lacking("the right to write what root would (root)")
    state = site.folder / "firewall.json"
    write_state(state, Finding(Verdict.OK, "ab", "ab"), now=time.time(), interval=60)
    worker = site.start(
        env={
            "CARDOON_FIREWALL_CHECK_INTERVAL": "0.1",
            "CARDOON_FIREWALL_STATE": str(state),
            "CARDOON_FIREWALL_ON_CHANGE": "stop",
        }
    )
    difference = Difference("table-absent", "", "no table inet cardoon is loaded")
    state.chmod(0o666)  # anybody could have written it
    site.until(lambda: events(site, "firewall.unchecked"))
    assert site.call("add", 2, 3) == 5

    absent = Finding(Verdict.ABSENT, "", "ab", (difference,))
    write_state(state, absent, now=time.time(), interval=60)

    assert worker.wait(DEADLINE) == 77
    [record] = events(site, "firewall.absent")
    assert record["detail"].startswith("table-absent")


CROWD = """
import socket, sys, time
until = time.monotonic() + float(sys.argv[1])
tried = 0
while time.monotonic() < until:
    for source in ("198.51.100.2", "198.51.100.3"):
        line = socket.socket()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.settimeout(0.05)
        line.bind((source, 0))
        line.connect_ex(("198.51.100.1", 5671))
        line.close()
        tried += 1
    time.sleep(0.1)
print(tried)
"""
THEIRS = """
table ip theirs {
    set seen { type ipv4_addr . inet_service; flags dynamic, timeout; timeout 2s; size 4096; }
    chain x {
        type filter hook input priority -5; policy accept;
        tcp dport 5671 ct state new update @seen { ip saddr . tcp sport } counter
    }
}
"""


def test_traffic_and_sets_that_expire_change_nothing_of_the_digest_for_long(hosts, guarded):
    seconds = 60 if os.environ.get("CARDOON_TEST_THOROUGH") == "1" else 3
    (hosts.folder / "theirs.nft").write_text(THEIRS)
    hosts.nft("broker", "-f", "theirs.nft")
    _, _, before = hosts.check("broker")
    with ThreadPoolExecutor(1) as pool:
        crowd = pool.submit(hosts.run, "worker", sys.executable, "-c", CROWD, str(seconds))
        looks, listed = [], {hosts.nft("broker", "list", "ruleset")}
        while not crowd.done():
            looks.append(hosts.check("broker"))
            listed.add(hosts.nft("broker", "list", "ruleset"))
        listed.add(hosts.nft("broker", "list", "ruleset"))

    assert set(looks_of(looks)) == {("ok", before)}
    assert len(listed) > 1  # what nft lists as it stands did change
    assert int(crowd.result().stdout) > 5 * seconds


def looks_of(looks):
    return [(verdict, digest) for verdict, _, digest in looks]


def test_a_watch_that_runs_as_a_service_records_what_it_sees(hosts, guarded):
    state, trail = hosts.folder / "state.json", hosts.folder / "watch.jsonl"
    words = ("-m", "cardoon", "--config", "broker_settings", "firewall", "watch", "--interval", "1")
    watch = subprocess.Popen(
        [*hosts.command("broker", sys.executable), *words, "--state", str(state)],
        cwd=hosts.folder,
        env={**os.environ, "CARDOON_SECURITY_AUDIT_LOG": str(trail)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert "as it should be" in watch.stdout.readline()
        hosts.nft("broker", "flush", "ruleset")
        assert "table-absent" in watch.stdout.readline()
        assert hosts.cardoon("broker", "load").returncode == 0
        assert "as it should be" in watch.stdout.readline()
    finally:
        watch.terminate()
        watch.communicate(timeout=30)

    assert watch.returncode == 0  # what it saw last is well
    found = [json.loads(line)["event"] for line in trail.read_text().splitlines()]
    assert [one for one in found if one.startswith("firewall.")] == [
        "firewall.absent",
        "firewall.restored",
    ]


def test_root_begins_no_file_in_a_folder_that_is_another_users(hosts, guarded):
    theirs = hosts.folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    env = {"CARDOON_SECURITY_AUDIT_LOG": str(theirs / "audit.jsonl")}
    words = ("-m", "cardoon", "--config", "broker_settings", "firewall", "load")

    done = hosts.run("broker", "env", *(f"{k}={v}" for k, v in env.items()), sys.executable, *words)

    assert done.returncode == 0, done.stderr
    assert "is another user's, so nothing is recorded there" in done.stderr
    assert list(theirs.iterdir()) == []
