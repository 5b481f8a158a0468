"""Asks nft, the program, with a deadline: it may hang, be missing, or not be allowed to look."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.firewall.table import FAMILY, TABLE, Table, parse_hooks, parse_table

PLACES = ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft")
"""Where it may be. Not `PATH`, which is not always ours."""
DEADLINE = 5.0
"""Seconds for an answer; it takes some hundredths."""
MAX_BYTES = 8 << 20
"""Of a listing: some ten times what `MAX_RULES` rules take."""
_MAX_SAID = 300
_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Nft:
    """The program. Every answer that it does not give is an `OperationalError`."""

    def __init__(self, program: Path | None = None, *, deadline: float = DEADLINE) -> None:
        self._program = program
        self._deadline = deadline

    def table(self) -> Table | None:
        """Our table as it is loaded; None where there is none."""
        code, listing, said = self._run("-j", "list", "table", FAMILY, TABLE)
        if code and "No such file or directory" in said:
            return None
        self._check(code, said)
        try:
            return parse_table(listing)
        except ValueError as error:
            raise OperationalError(f"firewall: {error}") from error

    def others(self) -> tuple[str, ...]:
        """Chains of other tables that see the same packets."""
        code, listing, said = self._run("-j", "list", "chains")
        self._check(code, said)
        try:
            return parse_hooks(listing)
        except ValueError as error:
            raise OperationalError(f"firewall: {error}") from error

    def load(self, ruleset: str) -> None:
        """Replace our table, at once or not at all; `ImproperlyConfigured` where nft refuses the rules."""
        code, _, said = self._run("-f", "-", given=ruleset.encode())
        if code and not _is_denied(said):
            raise ImproperlyConfigured(f"firewall: nft refuses the rules: {said}")
        self._check(code, said)

    def _check(self, code: int, said: str) -> None:
        if not code:
            return
        if _is_denied(said):
            raise OperationalError(
                "firewall: nft may not be asked by this user; run it as root, or set firewall_state to what "
                "`cardoon firewall watch` writes as root"
            )
        raise OperationalError(f"firewall: nft says: {said or f'exit code {code}'}")

    def _run(self, *arguments: str, given: bytes = b"") -> tuple[int, bytes, str]:
        command = [self._find(), *arguments]
        with tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    env=_ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                raise OperationalError(f"firewall: {command[0]}: {error.strerror}") from error
            with process:
                code, answer = self._converse(process, given)
            complaints.seek(0)
            return code, answer, _said(complaints.read(4 * _MAX_SAID))

    def _converse(self, process: subprocess.Popen[bytes], given: bytes) -> tuple[int, bytes]:
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(self._deadline, give_up)
        timer.daemon = True
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(given)
                process.stdin.close()
            answer = process.stdout.read(MAX_BYTES + 1)
            if len(answer) > MAX_BYTES:
                _kill(process)
                raise OperationalError(f"firewall: nft lists more than {MAX_BYTES >> 20} MiB")
            code = process.wait()
        finally:
            timer.cancel()
        if late.is_set():
            raise OperationalError(
                f"firewall: nft gave no answer within {self._deadline:g} seconds"
            )
        return code, answer

    def _find(self) -> str:
        if self._program is not None:
            return str(self._program)
        for place in PLACES:
            if os.access(place, os.X_OK):
                return place
        raise OperationalError("firewall: there is no nft on this host; install nftables")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has started, or those would keep its output open."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, 9)


def _is_denied(said: str) -> bool:
    return "Operation not permitted" in said or "Permission denied" in said


def _said(answer: bytes) -> str:
    """The first lines of a complaint, on one line."""
    text = " ".join(answer.decode(errors="replace").split())
    return "".join(char for char in text if char.isprintable())[:_MAX_SAID]
