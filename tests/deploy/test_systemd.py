"""The units in deploy/systemd: what they say exists, and leaves sandboxes what they need."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from cardoon.cli.main import COMMANDS, cardoon
from cardoon.config import Conf, Settings
from cardoon.sandbox import namespaces

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
WORKER, BEAT = "cardoon-worker@.service", "cardoon-beat@.service"
CANARY = "cardoon-canary@.service"
CONFINED = "cardoon-worker-confined.conf"
FIREWALL = "cardoon-firewall@.service"
SERVICES = (WORKER, BEAT, CANARY, FIREWALL)
UNITS = (*SERVICES, CONFINED, "cardoon.slice")
EXAMPLES = [
    (WORKER, "worker.env"),
    (BEAT, "beat.env"),
    (CANARY, "canary.env"),
    (FIREWALL, "firewall.env"),
]

KNOWN = {
    "Unit": "Description Wants After StartLimitIntervalSec StartLimitBurst",
    "Install": "WantedBy",
    "Slice": "CPUWeight MemoryHigh MemoryMax TasksMax",
    "Service": (
        "Slice User Group DynamicUser UMask WorkingDirectory LoadCredential Environment EnvironmentFile StateDirectory"
        " StateDirectoryMode RuntimeDirectory RuntimeDirectoryMode ExecStart Type NotifyAccess TimeoutStartSec WatchdogSec Restart RestartSec"
        " RestartPreventExitStatus KillMode KillSignal TimeoutStopSec OOMPolicy OOMScoreAdjust Delegate"
        " LimitNOFILE LimitCORE MemoryMax TasksMax NoNewPrivileges CapabilityBoundingSet AmbientCapabilities"
        " ProtectSystem ProtectHome ProtectProc ProcSubset ProtectClock ProtectHostname ProtectControlGroups"
        " ProtectKernelLogs ProtectKernelModules ProtectKernelTunables PrivateTmp PrivateDevices PrivateUsers"
        " LockPersonality RestrictRealtime RestrictSUIDSGID RestrictNamespaces RestrictAddressFamilies"
        " RemoveIPC KeyringMode MemoryDenyWriteExecute SystemCallArchitectures SystemCallFilter"
        " SystemCallErrorNumber"
    ),
}
HARDENING = [
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "ProtectSystem",
    "ProtectHome",
    "ProtectProc",
    "ProcSubset",
    "ProtectClock",
    "ProtectHostname",
    "ProtectControlGroups",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "PrivateTmp",
    "PrivateDevices",
    "LockPersonality",
    "RestrictRealtime",
    "RestrictSUIDSGID",
    "RestrictNamespaces",
    "RestrictAddressFamilies",
    "MemoryDenyWriteExecute",
    "SystemCallArchitectures",
    "SystemCallFilter",
]


def read_unit(name):
    """What a unit says, as (section, directive, value); anything else in it is an error."""
    section, said = "", []
    for line in (FOLDER / name).read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = found[1]
            continue
        directive, mark, value = line.partition("=")
        assert mark, f"{name}: {line!r} is no directive"
        said.append((section, directive, value))
    return said


def values(name, directive):
    return [value for _, one, value in read_unit(name) if one == directive]


def seconds(name, directive):
    return int(values(name, directive)[-1])


@pytest.mark.parametrize("name", UNITS)
def test_every_directive_is_one_of_systemds(name):
    for section, directive, _ in read_unit(name):
        assert directive in KNOWN[section].split(), f"[{section}] {directive}"


@pytest.mark.parametrize("name", SERVICES)
def test_systemd_itself_finds_nothing_to_complain_of(name, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "cardoon"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = (FOLDER / name).read_text("utf-8").replace("/opt/cardoon/bin/cardoon", str(program))
    (tmp_path / name).write_text(unit)
    shutil.copy(FOLDER / "cardoon.slice", tmp_path)

    done = subprocess.run(
        ["systemd-analyze", "verify", f"./{name}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "most"), [(WORKER, 3.5), (BEAT, 1.5), (CANARY, 1.5), (FIREWALL, 2.5)]
)
def test_systemd_counts_little_exposure(name, most, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"./{name}"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert float(re.search(r"exposure level for \S+: ([\d.]+)", told)[1]) <= most


def test_each_protection_is_taken_or_said_to_be_left_out():
    text = (FOLDER / WORKER).read_text("utf-8")
    for directive in HARDENING:
        assert values(WORKER, directive) or re.search(rf"# .*\b{directive}=", text), directive


def test_a_worker_may_take_the_namespaces_that_strict_sandboxes_are_made_of():
    allowed = values(WORKER, "RestrictNamespaces")[-1].split()
    needed = {
        "mnt": namespaces.NEW_MOUNTS,
        "uts": namespaces.NEW_HOST_NAME,
        "ipc": namespaces.NEW_IPC,
        "user": namespaces.NEW_USERS,
        "pid": namespaces.NEW_PROCESSES,
        "net": namespaces.NEW_NETWORK,
    }
    known = {getattr(namespaces, name) for name in dir(namespaces) if name.startswith("NEW_")}

    assert set(needed.values()) == known, "a namespace is new: let the unit have it"
    assert set(allowed) == set(needed)


def test_a_worker_may_make_the_calls_that_confine_tasks():
    for name in (WORKER, CONFINED):
        listed = " ".join(values(name, "SystemCallFilter")).split()
        assert {"seccomp", "landlock_create_ruleset", "landlock_add_rule"} <= set(listed)
        assert "landlock_restrict_self" in listed
    assert "@mount" in " ".join(values(WORKER, "SystemCallFilter"))
    assert "sethostname" in " ".join(values(WORKER, "SystemCallFilter"))


@pytest.mark.parametrize(
    "directive", ["ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname"]
)
def test_what_strict_sandboxes_cannot_bear_is_on_in_the_drop_in_alone(directive):
    assert values(WORKER, directive) == []
    assert values(CONFINED, directive) == ["yes"]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_command_of_a_unit_is_one_of_ours(name, example):
    given = read_environment(example)
    line = values(name, "ExecStart")[0].replace("%i", "shop").replace("%H", "host")
    line = re.sub(r"%[Sd]", "/var", line)
    line = re.sub(r"\$\{?(\w+)\}?", lambda found: given[found[1]], line)
    program, *arguments = shlex.split(line)
    assert program == "/opt/cardoon/bin/cardoon"
    context = cardoon.make_context("cardoon", arguments)
    command, *rest = context._protected_args + context.args
    assert command in COMMANDS

    found = cardoon.get_command(context, command)

    while isinstance(found, click.Group):
        context = found.make_context(command, rest, parent=context)
        command, *rest = context._protected_args + context.args
        found = found.get_command(context, command)
    assert found.make_context(command, rest, parent=context).params


@pytest.mark.parametrize(("name", "example"), [(WORKER, "worker.env"), (BEAT, "beat.env")])
def test_the_variables_of_a_unit_are_settings_of_ours(name, example):
    given = read_environment(example)
    for line in values(name, "Environment"):
        given |= dict(one.split("=", 1) for one in shlex.split(line))
    ours = {key: value for key, value in given.items() if key.startswith("CARDOON_")}

    settings = Conf(environ=ours).settings()

    assert settings.security_domain == "shop"
    assert settings.broker_url.startswith("file:")
    assert not any("://" in value for value in given.values()), "an address may hold a password"


def test_a_worker_has_the_time_that_a_warm_shutdown_takes():
    flush = 10

    assert seconds(WORKER, "TimeoutStopSec") > Settings().worker_soft_shutdown_timeout + flush
    assert values(WORKER, "KillMode") == ["mixed"]
    assert values(WORKER, "OOMPolicy") == ["continue"]


def test_beat_and_worker_are_different_users():
    users = {values(WORKER, "User")[0], values(BEAT, "User")[0]}
    made = {line.split()[1] for line in (FOLDER / "sysusers.conf").read_text().splitlines()
            if line.startswith("u ")}  # fmt: skip

    assert len(users) == 2
    assert users == made


def read_environment(name):
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
