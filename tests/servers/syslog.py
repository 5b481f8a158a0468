"""Syslog servers for tests: rsyslogd and syslog-ng, each of its own, on loopback, writing what they understood."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.servers.ground import START_SECONDS, Authority, Process, find_program, free_port, lacking

SYSLOG_NG = Path("/opt/syslog-ng")
"""Unpacked there, since Debian lets nobody install both."""
_FIELDS = {
    "facility": "syslogfacility-text",
    "severity": "syslogseverity-text",
    "host": "hostname",
    "app": "app-name",
    "pid": "procid",
    "msgid": "msgid",
    "sd": "structured-data",
    "text": "msg",
}


class Received(NamedTuple):
    """A record as a server understood it."""

    facility: str
    severity: str
    host: str
    app: str
    pid: str
    msgid: str
    sd: dict[str, str]
    text: str


class SyslogServer:
    """What both have in common: ports, files, and being killed or frozen."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.output = folder / "received.jsonl"
        self.output.touch()
        self.udp, self.tcp, self.tls = free_port(), free_port(), free_port()
        self.socket = folder / "log.sock"
        self.authority = authority
        self._pair = authority.issue("server")
        self.client = authority.issue("client")
        self._process = Process(folder, self._command())

    def address(self, kind: str) -> str:
        """For `syslog_address`."""
        if kind == "unix":
            return f"unix:{self.socket}"
        host = self.authority.host if kind == "tls" else self.authority.address
        return f"{kind}://{host}:{getattr(self, kind)}"

    @property
    def tls_files(self) -> dict[str, str]:
        """For `syslog_tls`."""
        return {
            "ca": str(self.authority.file),
            "certificate": str(self.client.certificate),
            "key": str(self.client.key),
        }

    @property
    def command(self) -> list[str]:
        """What starts it."""
        return self._process.command

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._process.log

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process.start(self._listens)

    def stop(self) -> None:
        """End it; safe twice."""
        self._process.stop(timeout=3)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.kill()

    @contextlib.contextmanager
    def frozen(self):
        """Keep it from reading, with its connections open."""
        self._process.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send(signal.SIGCONT)

    def freeze(self) -> None:
        """Keep it from reading until it is killed."""
        self._process.send(signal.SIGSTOP)

    def clear(self) -> None:
        """Forget what has come; it appends, so the file may be cut."""
        os.truncate(self.output, 0)

    def lines(self) -> list[str]:
        """What it has written, as it stands there."""
        return self.output.read_text("utf-8", errors="surrogateescape").split("\n")[:-1]

    def received(self, stream: str = "") -> list[Received]:
        """What has come so far; of one stream, if that is said."""
        found = [self._parse(line) for line in self.lines()]
        return [one for one in found if not stream or one.sd.get("id") == stream]

    def wait_for(
        self, is_there: Callable[[list[Received]], bool], seconds: float = 20
    ) -> list[Received]:
        """What has come, once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not is_there(found := self.received()):
            assert time.monotonic() < deadline, (
                f"{len(found)} records came: {found[-3:]}\n{self.log[-2000:]}"
            )
            time.sleep(0.02)
        return found

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _listens(self) -> bool:
        """Asked of the kernel, since a connection that is made and dropped leaves a line in its log."""
        return {self.tcp, self.tls} <= _listening() and self.socket.exists()

    def _parse(self, line: str) -> Received:
        raise NotImplementedError


class Rsyslog(SyslogServer):
    """rsyslogd, with nothing escaped on its side: what would forge a record here is ours."""

    def _command(self) -> list[str]:
        fields = "\n".join(
            f'  property(name="{theirs}" outname="{ours}" format="jsonf") constant(value=",")'
            for ours, theirs in list(_FIELDS.items())[:-1]
        )
        config = self.folder / "rsyslog.conf"
        config.write_text(
            f"""
global(workDirectory="{self.folder}" maxMessageSize="64k"
  parser.escapeControlCharactersOnReceive="off"
  defaultNetstreamDriverCAFile="{self.authority.file}"
  defaultNetstreamDriverCertFile="{self._pair.certificate}"
  defaultNetstreamDriverKeyFile="{self._pair.key}")
main_queue(queue.size="10000" queue.dequeuebatchsize="100")
module(load="imudp") module(load="imtcp") module(load="imptcp") module(load="imuxsock" SysSock.Use="off")
template(name="all" type="list" option.jsonf="off") {{
  constant(value="{{")
{fields}
  property(name="msg" outname="text" format="jsonf")
  constant(value="}}\\n") }}
ruleset(name="r") {{ action(type="omfile" file="{self.output}" template="all") }}
input(type="imudp" port="{self.udp}" address="{self.authority.address}" ruleset="r" rcvbufSize="4m")
input(type="imptcp" port="{self.tcp}" address="{self.authority.address}" ruleset="r")
input(type="imtcp" port="{self.tls}" address="{self.authority.address}" ruleset="r" streamDriver.name="gtls"
  streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imuxsock" socket="{self.socket}" useSpecialParser="off" parseHostname="on" ruleset="r")
""",
            "utf-8",
        )
        program = find_program("rsyslogd")
        return [program, "-n", "-f", str(config), "-i", str(self.folder / "rsyslogd.pid")]

    def _parse(self, line: str) -> Received:
        told = json.loads(line)
        told["sd"] = parse_structured(told["sd"])
        return Received(**told)


class SyslogNg(SyslogServer):
    """syslog-ng, which takes RFC 5424 with counted octets alone where it is told `syslog()`."""

    def _command(self) -> list[str]:
        if not (SYSLOG_NG / "usr/sbin/syslog-ng").exists() and not shutil.which("syslog-ng"):
            lacking("syslog-ng")
        pairs = (
            'facility="$FACILITY" severity="$LEVEL" host="$HOST" app="$PROGRAM" pid="$PID" '
            'msgid="$MSGID" sd="$SDATA" text="$MSG"'
        )
        library = SYSLOG_NG / "usr/lib/syslog-ng"
        modules = next(library.glob("[0-9]*"), None)
        version = "3.38" if modules is None else modules.name
        config = self.folder / "syslog-ng.conf"
        config.write_text(
            f"""@version: {version}
options {{ stats-freq(0); log-msg-size(65536); keep-hostname(yes); flush-lines(1); }};
source s {{
  syslog(transport("udp") ip({self.authority.address}) port({self.udp}) so-rcvbuf(4194304));
  syslog(transport("tcp") ip({self.authority.address}) port({self.tcp}));
  syslog(transport("tls") ip({self.authority.address}) port({self.tls})
    tls(key-file("{self._pair.key}") cert-file("{self._pair.certificate}")
      ca-file("{self.authority.file}") peer-verify(required-trusted)));
  unix-dgram("{self.socket}" flags(syslog-protocol));
}};
destination d {{ file("{self.output}" template('$(format-json {pairs})\n')); }};
log {{ source(s); destination(d); }};
""",
            "utf-8",
        )
        if not (SYSLOG_NG / "usr/sbin/syslog-ng").exists():
            return self._with_files([find_program("syslog-ng")], config)
        program = [
            "env", f"LD_LIBRARY_PATH={library}", str(SYSLOG_NG / "usr/sbin/syslog-ng"),
            "--module-path", str(modules),
        ]  # fmt: skip
        return self._with_files(program, config)

    def _with_files(self, program: list[str], config: Path) -> list[str]:
        return [
            *program, "-F", "-f", str(config), "-R", str(self.folder / "state"),
            "-p", str(self.folder / "pid"), "-c", str(self.folder / "control"), "--no-caps",
        ]  # fmt: skip

    def _parse(self, line: str) -> Received:
        told = json.loads(line)
        told["sd"] = parse_structured(told.get("sd", ""))
        return Received(**{name: told.get(name, "") for name in Received._fields})


def parse_structured(text: str) -> dict[str, str]:
    """Every parameter of all elements of structured data, unquoted; an error for what is none."""
    found: dict[str, str] = {}
    rest = "" if text == "-" else text
    while rest:
        assert rest.startswith("["), rest
        name, _, rest = rest[1:].partition(" ")
        assert " " not in name
        while not rest.startswith("]"):
            key, _, rest = rest.lstrip(" ").partition('="')
            value, at = "", 0
            while rest[at] != '"':
                at += rest[at] == "\\" and rest[at + 1] in '"\\]'
                value += rest[at]
                at += 1
            found[key], rest = value, rest[at + 1 :]
        rest = rest[1:]
    return found


def _listening() -> set[int]:
    found = set()
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        columns = line.split()
        if columns[3] == "0A":
            found.add(int(columns[1].rpartition(":")[2], 16))
    return found


__all__ = ["START_SECONDS", "Received", "Rsyslog", "SyslogNg", "SyslogServer", "parse_structured"]
