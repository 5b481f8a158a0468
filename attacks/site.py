"""A deployment to attack: a broker, a policy, a real worker and a real client; and what its operator sees."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attacks import diary
from attacks.makers import NAME, Person, load_person
from attacks.people import LAW, People
from attacks.stores.rabbitmq import RabbitmqStore
from attacks.stores.sqlite import SqliteStore
from cardoon import Cardoon
from cardoon.broker import Broker, Inspectable, Kept, KeptMessage
from cardoon.clock import SystemClock
from cardoon.security.authority import create_authority, ensure_identity, issue
from faults.places import PLACES, Place
from faults.programs import Program, children_of

ROOT = Path(__file__).parent.parent
DOMAIN = "attacks/prod"
CONCURRENCY = 2
READY_SECONDS = 90.0
MAX_BYTES = 1024 * 1024
"""Of arguments and results, so that what is to be too large need not be very large."""
ROLES = ("client", "insider", "accountant", "revoked")
_LOOK_SECONDS = 0.03
_MOST_KEPT = 100_000
WEAKNESSES: Mapping[str, Mapping[str, str]] = {
    "": {},
    "plain": {"CARDOON_ACCEPT_CONTENT": "auth,json", "CARDOON_SECURITY_POLICY": ""},
    "lawless": {"CARDOON_SECURITY_POLICY": ""},
}
"""What a worker may be set to, so that it can be seen that attacks would succeed: to have no policy, and to
take messages without a signature as well."""


class SiteError(Exception):
    """The deployment itself does not work, so nothing can be said of attacks on it."""


class Site:
    """One deployment on one broker. `weakness` is one of `WEAKNESSES`."""

    def __init__(self, broker: str, folder: Path, *, weakness: str = "") -> None:
        store = folder / "store"
        store.mkdir(parents=True)
        self.broker = broker
        self.folder = folder
        self.diary = diary.Diary(folder / "diary")
        self.place: Place = PLACES[broker](store)
        self.worker: Program | None = None
        self._weakness = WEAKNESSES[weakness]
        self._workers = 0
        self._kept: list[KeptMessage] = []
        self._kept_by_id: defaultdict[str, list[KeptMessage]] = defaultdict(list)
        self._looked_at = 0.0
        self._audit = _Lines(self.state / "audit.jsonl")

    @property
    def state(self) -> Path:
        """Where identities lie."""
        return self.folder / ".cardoon"

    def open(self) -> None:
        """Make identities, start the broker and a worker, and wait until it works."""
        clock = SystemClock()
        create_authority(self.state, NAME, clock=clock)
        for role in ("worker", *ROLES):
            issue(self.state, role, clock=clock)
            ensure_identity(self.state, role, clock=clock)
        revoked = load_person(self.state, "revoked")
        _write(self.state / "revoked.txt", f"sha256:{revoked.fingerprint.hex()}\n")
        _write(self.state / "policy.toml", LAW)
        if self.place.server is not None:
            self.place.server.start()
        self.app = self._make_client()
        self.start_worker()
        self.store = self._open_store()
        self.people = People(self.state)
        self._watcher: Broker = self.place.connect()

    def _make_client(self) -> Cardoon:
        return Cardoon(
            "attacks.client",
            broker_url=self.place.url,
            result_backend=self.place.own_results or self.place.url,
            state_directory=str(self.state),
            security_domain=DOMAIN,
            security_policy=str(self.state / "policy.toml"),
            message_max_bytes=MAX_BYTES,
            set_as_current=False,
        )

    def _open_store(self) -> Any:
        match self.broker:
            case "sqlite":
                return SqliteStore(self.folder / "store" / "cardoon.db")
            case "redis":
                from attacks.stores.redis import RedisStore  # noqa: PLC0415 - as a driver's branch

                return RedisStore(self.place.url)
            case "postgres":
                from attacks.stores.postgres import PostgresStore  # noqa: PLC0415

                return PostgresStore(self.place.url)
            case _:
                return RabbitmqStore(self.place.url, self.folder / "store" / "cardoon.db")

    def _environment(self) -> dict[str, str]:
        paths = (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            diary.PATH_VARIABLE: str(self.folder / "diary"),
            "CARDOON_BROKER_URL": self.place.url,
            "CARDOON_RESULT_BACKEND": self.place.own_results or self.place.url,
            "CARDOON_STATE_DIRECTORY": str(self.state),
            "CARDOON_SECURITY_DOMAIN": DOMAIN,
            "CARDOON_SECURITY_POLICY": str(self.state / "policy.toml"),
            "CARDOON_SECURITY_REVOKED": str(self.state / "revoked.txt"),
            "CARDOON_MESSAGE_MAX_BYTES": str(MAX_BYTES),
            "CARDOON_WORKER_PASS_ENVIRONMENT": diary.PATH_VARIABLE,
            **self._weakness,
        }

    def start_worker(self) -> None:
        """Start a worker, and wait until it has run a task."""
        self._workers += 1
        arguments = ["-m", "cardoon", "-A", "attacks.tasks", "worker", "-l", "info"]
        arguments += ["-c", str(CONCURRENCY), "-n", f"worker{self._workers}@attacked"]
        self.log = self.folder / f"worker{self._workers}.log"
        self.worker = Program(arguments, env=self._environment(), folder=self.folder, log=self.log)
        token = f"ready-{self._workers}"
        sent = self.app.send_task("canary.note", (token,))
        if not self.comes_true(lambda: self.runs(token), READY_SECONDS):
            raise SiteError(f"no worker: {self.log.read_text(errors='replace')[-3000:]}")
        sent.get(timeout=READY_SECONDS)
        self.memory_at_start = self.memory()

    def restart_worker(self) -> None:
        """Stop the worker in order, and start another one."""
        assert self.worker is not None
        self.worker.terminate(patience=40.0)
        self.start_worker()

    def close(self) -> None:
        """End everything that runs."""
        if self.worker is not None:
            self.worker.kill()
        for name in ("store", "_watcher", "app"):
            with contextlib.suppress(Exception):  # a store that was attacked may be in any state
                getattr(self, name).close()
        self.place.close()

    # What is seen

    def comes_true(self, condition: Any, seconds: float) -> bool:
        """Wait for a condition that others bring about; whether it came."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def runs(self, token: str) -> list[diary.Entry]:
        """The tasks that ran with a token."""
        return [entry for entry in self.diary.read() if entry.token == token]

    def quarantined(self, id: str | None = None) -> list[KeptMessage]:
        """What was refused, as `cardoon quarantine list` has it; of one id, or all."""
        assert isinstance(self._watcher, Inspectable)
        moment = time.monotonic()
        if moment - self._looked_at > _LOOK_SECONDS:
            after = self._kept[-1].number if self._kept else 0
            for one in self._watcher.kept(Kept.QUARANTINE, limit=_MOST_KEPT, after=after):
                self._kept.append(one)
                self._kept_by_id[one.id].append(one)
            self._looked_at = time.monotonic()
        return self._kept if id is None else self._kept_by_id[id]

    def audited(self) -> list[dict[str, Any]]:
        """The audit trail of worker and client."""
        return self._audit.read()

    def memory(self) -> int:
        """Bytes that the processes of the worker have in memory."""
        assert self.worker is not None
        pids = [self.worker.pid]
        for pid in pids:
            pids += children_of(pid)
        return sum(map(_resident, pids))

    @property
    def is_worker_alive(self) -> bool:
        """Whether its first process runs."""
        return self.worker is not None and self.worker.is_alive

    def evidence(self) -> str:
        """What the worker said last."""
        return "\n    ".join(self.log.read_text(errors="replace").splitlines()[-25:])


class _Lines:
    """A file of JSON lines that grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._found: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                added = file.read()
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            self._found += map(json.loads, whole.splitlines())
        return self._found


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(found[0]) * 1024 if found else 0


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)


__all__ = ["Person", "Site", "SiteError"]
