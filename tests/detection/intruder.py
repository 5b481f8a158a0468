"""Somebody who owns a worker's host, and what notices each of his deeds.

`python -m tests.detection.intruder` prints a table; `test_intruder.py` holds each row to it. It needs root, nft and
unshare. Every deed has a deployment of its own, with a real worker in a network of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import py_compile
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.servers.ground import find_program

DEADLINE = 30.0
TASKS = """\
import prices
from cardoon import Cardoon

app = Cardoon("tasks")
app.conf.update(
    integrity_baseline="host.baseline",
    integrity_key=["approver.pem"],
    integrity_on_drift="stop",
    integrity_watch=True,
    firewall_check_interval=0.2,
    firewall_on_change="stop",
)


@app.task
def price():
    return prices.of_today()
"""
PRICES = "def of_today():\n    return 'honest'\n"
EVIL = "def of_today():\n    return 'stolen'\n"
assert len(PRICES) == len(EVIL)


class Victim:
    """A project's folder whose files an approver elsewhere has signed, and its worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "code"
        self.worker: subprocess.Popen[bytes] | None = None
        path = os.pathsep.join([str(self.code), *filter(None, [os.getenv("PYTHONPATH")])])
        self._environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }

    @property
    def bytecode(self) -> Path:
        """Of `prices`, as it was compiled when it was deployed."""
        [found] = (self.code / "__pycache__").glob("prices.*.pyc")
        return found

    @property
    def trail(self) -> Path:
        return self.folder / ".cardoon" / "audit.jsonl"

    def deploy(self) -> None:
        """Make identities, code and bytecode, and have the baseline signed with a key that does not stay."""
        self.run("init")
        (self.folder / "tasks.py").unlink()  # which `init` has made
        self.code.mkdir()
        (self.code / "tasks.py").write_text(TASKS)
        (self.code / "prices.py").write_text(PRICES)
        for name in ("tasks", "prices"):
            py_compile.compile(str(self.code / f"{name}.py"), doraise=True)
        key = ed25519.Ed25519PrivateKey.generate()
        (self.folder / "approver.pem").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        roots = ["code", ".cardoon/trusted"]
        listed = ", ".join(json.dumps(str(self.folder / root)) for root in roots)
        (self.folder / "rules.toml").write_text(f"roots = [{listed}]\n")
        self.run("-A", "tasks", "integrity", "init", "--rules", "rules.toml", "--host", "*")
        private = self.folder / "approver.key"
        private.touch(mode=0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.run("integrity", "sign", "host.baseline", "--key", "approver.key")
        private.unlink()

    def start(self) -> None:
        """Start the worker in a network of its own, with its rules loaded; returns when it has run a task."""
        command = f"{sys.executable} -m cardoon -A tasks"
        script = f"{command} firewall load && exec {command} worker -P prefork -c 1"
        with (self.folder / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", script],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        assert "honest" in self.run("-A", "tasks", "call", "price", "--wait").stdout

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command of ours, which ends with this code; None for any."""
        done = subprocess.run(
            [sys.executable, "-m", "cardoon", *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done

    def enter(self, *words: str) -> None:
        """Run a program in the worker's network."""
        assert self.worker is not None
        target = ["nsenter", "--net", "--target", str(self.worker.pid)]
        subprocess.run([*target, *words], check=True, capture_output=True)

    def wait(self) -> int:
        """The worker's exit code."""
        assert self.worker is not None
        return self.worker.wait(DEADLINE)

    def stop(self) -> None:
        if self.worker is not None and self.worker.poll() is None:
            self.worker.terminate()
            self.worker.wait(DEADLINE)

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.trail.read_text().splitlines()]


@dataclass(frozen=True)
class Outcome:
    """Who noticed a deed, in which words, and what became of the worker."""

    part: str
    told: str
    exit_code: int | None


def of_worker(victim: Victim, event: str) -> Outcome:
    """What the worker recorded, once it has ended."""
    code = victim.wait()
    found = [one for one in victim.records() if one["event"] == event]
    words = {
        f"{one.get('kind', '')} {Path(str(one['path'])).name}"
        if "path" in one
        else str(one["detail"])
        for one in found
    }
    return Outcome(event, "; ".join(sorted(words)), code)


def edit_code(victim: Victim) -> Outcome:
    (victim.code / "prices.py").write_text(EVIL)
    return of_worker(victim, "integrity.drift")


def edit_code_and_put_the_time_back(victim: Victim) -> Outcome:
    path = victim.code / "prices.py"
    held = path.stat()
    with path.open("r+") as file:
        file.write(EVIL)
    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    return of_worker(victim, "integrity.drift")


def swap_bytecode(victim: Victim) -> Outcome:
    """The source stays as it is, and Python runs something else: header, size and time of the file are the same."""
    path = victim.bytecode
    held, before = path.stat(), path.read_bytes()
    swapped = before.replace(b"honest", b"stolen")
    assert swapped != before
    with path.open("r+b") as file:
        file.write(swapped)
    os.utime(path, ns=(held.st_atime_ns, held.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (held.st_size, held.st_mtime_ns)
    return of_worker(victim, "integrity.drift")


def add_sitecustomize(victim: Victim) -> Outcome:
    (victim.code / "sitecustomize.py").write_text("import prices\n")
    return of_worker(victim, "integrity.drift")


def replace_a_certificate(victim: Victim) -> Outcome:
    """His own, under the name of a client that is trusted."""
    with tempfile.TemporaryDirectory() as elsewhere:
        other = Victim(Path(elsewhere))
        other.run("init")
        trusted = Path(elsewhere) / ".cardoon" / "trusted" / "client.pem"
        (victim.folder / ".cardoon" / "trusted" / "client.pem").write_bytes(trusted.read_bytes())
    return of_worker(victim, "integrity.drift")


def approve_it_himself(victim: Victim) -> Outcome:
    """A new baseline of what he has changed, signed by nobody."""
    victim.stop()
    (victim.code / "prices.py").write_text(EVIL)
    victim.run("-A", "tasks", "integrity", "update")
    done = victim.run("-A", "tasks", "integrity", "check", code=None)
    return Outcome("integrity check", done.stderr.strip().rpartition(": ")[2], done.returncode)


def remove_the_firewall(victim: Victim) -> Outcome:
    victim.enter(find_program("nft"), "flush", "ruleset")
    return of_worker(victim, "firewall.absent")


def open_the_firewall(victim: Victim) -> Outcome:
    rule = "insert rule inet cardoon output tcp dport 4444 accept"
    victim.enter(find_program("nft"), rule)
    return of_worker(victim, "firewall.changed")


def rewrite_the_audit_log(victim: Victim) -> Outcome:
    victim.stop()
    lines = victim.trail.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"source":"', b'"source":"x')
    victim.trail.write_bytes(b"".join(lines))
    return of_audit(victim)


def trim_the_audit_log(victim: Victim) -> Outcome:
    victim.stop()
    lines = victim.trail.read_bytes().splitlines(keepends=True)
    victim.trail.write_bytes(b"".join(lines[:-2]))
    return of_audit(victim)


def of_audit(victim: Victim) -> Outcome:
    """What `cardoon audit verify` says of the log afterwards."""
    done = victim.run("-A", "tasks", "audit", "verify", "--json", code=None)
    kinds = {one["flaw"] for one in json.loads(done.stdout)["findings"]}
    return Outcome("audit verify", "; ".join(sorted(kinds)), done.returncode)


@dataclass(frozen=True)
class Deed:
    """One thing that he does, and what is to come of it."""

    act: Callable[[Victim], Outcome]
    part: str
    told: str
    exit_code: int

    @property
    def name(self) -> str:
        return self.act.__name__.replace("_", " ")


DEEDS = (
    Deed(edit_code, "integrity.drift", "changed prices.py", 78),
    Deed(edit_code_and_put_the_time_back, "integrity.drift", "changed prices.py", 78),
    Deed(swap_bytecode, "integrity.drift", "changed prices.cpython", 78),
    Deed(add_sitecustomize, "integrity.drift", "added sitecustomize.py", 78),
    Deed(replace_a_certificate, "integrity.drift", "changed client.pem", 78),
    Deed(approve_it_himself, "integrity check", "sign", 1),
    Deed(remove_the_firewall, "firewall.absent", "table-absent", 77),
    Deed(open_the_firewall, "firewall.changed", "rule-added in chain output: tcp dport 4444", 77),
    Deed(rewrite_the_audit_log, "audit verify", "changed", 6),
    Deed(trim_the_audit_log, "audit verify", "truncated", 7),
)


@contextlib.contextmanager
def deployed(folder: Path) -> Iterator[Victim]:
    """A victim whose worker runs."""
    victim = Victim(folder)
    victim.deploy()
    try:
        victim.start()
        yield victim
    finally:
        victim.stop()


def main() -> int:
    """Do all of it, and print who noticed what."""
    failed = 0
    print(f"{'deed':34} {'noticed by':18} {'exit':>4} {'s':>5}  in these words")
    for deed in DEEDS:
        with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as victim:
            began = time.monotonic()
            outcome = deed.act(victim)
            seconds = time.monotonic() - began
        is_named = (
            outcome.part == deed.part
            and deed.told in outcome.told
            and outcome.exit_code == deed.exit_code
        )
        failed += not is_named
        mark = "" if is_named else "   NOT AS EXPECTED"
        told = f"{outcome.part:18} {outcome.exit_code!s:>4} {seconds:5.1f}  {outcome.told}{mark}"
        print(f"{deed.name:34} {told}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
