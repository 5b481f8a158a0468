"""Checks of the process that runs tasks, and of the kernel below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import NotApplicableError, Scene, UncheckedError
from cardoon.sandbox.profile import Level

_LOADERS = ("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT")
_PYTHON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONBREAKPOINT",
    "PYTHONDEBUG",
    "PYTHONWARNDEFAULTENCODING",
)
_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system")
_UNIT_WANTS = (
    "NoNewPrivileges",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "RestrictAddressFamilies",
    "MemoryDenyWriteExecute",
    "SystemCallFilter",
    "CapabilityBoundingSet",
    "UMask",
)
_SECRET_WORDS = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL", re.IGNORECASE)


@check(
    "PRC-01",
    Severity.CRITICAL,
    "the user who runs tasks",
    looks_at="the user of this process; start the doctor as the one who runs the worker",
    remedy="User=cardoon-worker in the unit, or `su -s /bin/sh cardoon-worker -c ...`",
    deploy=True,
)
def user(scene: Scene) -> Iterator[str]:
    """What breaks out of a task of root's has the machine."""
    if scene.uid == 0:
        yield "the process runs as root"


@check(
    "PRC-02",
    Severity.HIGH,
    "capabilities",
    looks_at="CapEff in /proc/self/status",
    remedy="CapabilityBoundingSet= and AmbientCapabilities= in the unit",
    deploy=True,
)
def capabilities(scene: Scene) -> Iterator[str]:
    """A worker needs none."""
    told = scene.process().get("CapEff", "")
    if not told:
        raise UncheckedError("/proc/self/status tells no capabilities")
    if int(told, 16):
        yield f"CapEff is {told}"


@check(
    "PRC-03",
    Severity.HIGH,
    "a sandbox for tasks",
    looks_at="worker_pool, worker_sandbox",
    remedy='worker_pool = "isolated"; worker_sandbox = {"level": "confined"} (docs/sandbox.md)',
)
def sandbox(scene: Scene) -> Iterator[str]:
    """Without one a task reads and writes whatever its user may."""
    settings = scene.settings
    if settings.worker_pool != "isolated":
        yield f"worker_pool={settings.worker_pool!r} confines no task"
    elif settings.worker_sandbox is not None and settings.worker_sandbox.level == Level.PROCESS:
        yield "worker_sandbox has the level 'process', which keeps nothing from files and network"


@check(
    "PRC-04",
    Severity.HIGH,
    "core dumps",
    looks_at="RLIMIT_CORE, kernel.core_pattern, fs.suid_dumpable",
    remedy="LimitCORE=0 in the unit; sysctl fs.suid_dumpable=0",
    deploy=True,
)
def core_dumps(scene: Scene) -> Iterator[str]:
    """A dump has the keys in it."""
    limits = scene.need("/proc/self/limits")
    found = re.search(r"^Max core file size\s+(\S+)\s+(\S+)", limits, re.MULTILINE)
    if not found:
        raise UncheckedError("/proc/self/limits tells no limit of core files")
    if found[1] != "0":
        yield f"the limit of core files is {found[1]}"
    elif found[2] != "0" and scene.sysctl("kernel.core_pattern").startswith("|"):
        yield f"the hard limit of core files is {found[2]}, and a program takes dumps"
    if scene.sysctl("fs.suid_dumpable") not in {"0", "", "2"}:
        yield "fs.suid_dumpable is 1"


@check(
    "PRC-05",
    Severity.MEDIUM,
    "processes that look into others",
    looks_at="kernel.yama.ptrace_scope",
    remedy="sysctl kernel.yama.ptrace_scope=1, and a file in /etc/sysctl.d",
    deploy=True,
)
def ptrace(scene: Scene) -> Iterator[str]:
    """Any process of the same user could read a worker's memory."""
    if scene.sysctl("kernel.yama.ptrace_scope") in {"0", ""}:
        yield "kernel.yama.ptrace_scope is 0, or the kernel has no Yama"


@check(
    "PRC-06",
    Severity.MEDIUM,
    "variables that change what is loaded",
    looks_at="LD_PRELOAD and its like, PYTHONPATH and its like, /etc/ld.so.preload",
    remedy="unset VARIABLE; install packages rather than naming folders",
)
def loading(scene: Scene) -> Iterator[str]:
    """Code comes in by them that nobody looks at."""
    for name in (*_LOADERS, *_PYTHON):
        if scene.environ.get(name):
            yield f"{name} is set"
    if scene.read("/etc/ld.so.preload").strip():
        yield "/etc/ld.so.preload names libraries for every program"


def _find_units(scene: Scene) -> dict[str, str]:
    """The text of each unit of workers, its additions included, by name."""
    found: dict[str, str] = {}
    for folder in _UNIT_FOLDERS:
        place = scene.root / folder.lstrip("/")
        for path in sorted(place.glob("cardoon*worker*.service")):
            if path.name in found or not path.is_file():
                continue
            additions = sorted(place.glob(f"{path.name}.d/*.conf"))
            names = [path.name, *(f"{path.name}.d/{one.name}" for one in additions)]
            found[path.name] = "\n".join(scene.read(f"{folder}/{name}") for name in names)
    return found


@check(
    "PRC-07",
    Severity.MEDIUM,
    "the unit of systemd",
    looks_at="cardoon*worker*.service in the folders of systemd",
    remedy="take deploy/systemd/cardoon-worker@.service; `systemd-analyze security UNIT`",
    deploy=True,
)
def unit(scene: Scene) -> Iterator[str]:
    """What the unit takes away, no fault of ours can give back."""
    units = _find_units(scene)
    if not units:
        raise NotApplicableError("no unit of a worker is installed here")
    for name, text in units.items():
        told = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
        missing = [
            one for one in _UNIT_WANTS if one not in told or told[one] in {"no", "false", "off"}
        ]
        if missing:
            yield f"{name} lacks {', '.join(missing)}"
        if told.get("User", "root") == "root" and told.get("DynamicUser") != "yes":
            yield f"{name} runs as root"


@check(
    "PRC-08",
    Severity.MEDIUM,
    "swap without encryption",
    looks_at="/proc/swaps",
    remedy="swap on dm-crypt with a key of its own, or zram; or MemorySwapMax=0 in the unit",
    deploy=True,
)
def swap(scene: Scene) -> Iterator[str]:
    """Keys and arguments are written to a disk, and stay there."""
    for line in scene.need("/proc/swaps").splitlines()[1:]:
        device = line.split()[0]
        name = device.rpartition("/")[2]
        if name.startswith("zram"):
            continue
        if not scene.read(f"/sys/block/{name}/dm/uuid").startswith("CRYPT-"):
            yield f"{device} is not known to be encrypted"


@check(
    "PRC-09",
    Severity.LOW,
    "the umask",
    looks_at="Umask in /proc/self/status",
    remedy="UMask=0077 in the unit",
    deploy=True,
)
def umask(scene: Scene) -> Iterator[str]:
    """Files that a task makes are others' to read."""
    told = scene.process().get("Umask", "")
    if not told:
        raise UncheckedError("/proc/self/status tells no umask")
    if int(told, 8) & 0o027 != 0o027:
        yield f"the umask is {told}"


@check(
    "PRC-10",
    Severity.MEDIUM,
    "privileges that can be gained",
    looks_at="NoNewPrivs in /proc/self/status",
    remedy="NoNewPrivileges=yes in the unit",
    deploy=True,
)
def new_privileges(scene: Scene) -> Iterator[str]:
    """Programs with the setuid bit work for who has broken in."""
    if scene.process().get("NoNewPrivs") != "1":
        yield "NoNewPrivs is not set"


@check(
    "PRC-11",
    Severity.HIGH,
    "what this machine can enforce",
    looks_at="the layers of `cardoon sandbox check`",
    remedy="`cardoon sandbox check` names what is missing for each layer",
)
def enforced(scene: Scene) -> Iterator[str]:
    """A sandbox is as strong as the kernel that holds it."""
    settings = scene.settings
    if settings.worker_pool != "isolated":
        raise NotApplicableError("no sandbox is asked for (PRC-03)")
    wanted = Level.CONFINED if settings.worker_sandbox is None else settings.worker_sandbox.level
    for layer in scene.layers().missing_for(wanted):
        yield f"{layer.name} is off: {layer.detail}"


@check(
    "PRC-12",
    Severity.HIGH,
    "sandboxes that may be weaker than they say",
    looks_at="unsafe_sandbox_best_effort",
    remedy="unsafe_sandbox_best_effort = False",
)
def best_effort(scene: Scene) -> Iterator[str]:
    """A worker starts although it cannot hold what was asked for."""
    if scene.settings.unsafe_sandbox_best_effort:
        yield "unsafe_sandbox_best_effort is on"


@check(
    "PRC-13",
    Severity.MEDIUM,
    "what the kernel tells and lets everybody do",
    looks_at="kernel.kptr_restrict, dmesg_restrict, unprivileged_bpf_disabled",
    remedy="sysctl kernel.kptr_restrict=1 kernel.dmesg_restrict=1 kernel.unprivileged_bpf_disabled=2",
    deploy=True,
)
def kernel(scene: Scene) -> Iterator[str]:
    """It shortens the way from a task to the kernel."""
    for name in (
        "kernel.kptr_restrict",
        "kernel.dmesg_restrict",
        "kernel.unprivileged_bpf_disabled",
    ):
        if scene.sysctl(name) == "0":
            yield f"{name} is 0"


@check(
    "PRC-14",
    Severity.MEDIUM,
    "links in folders that all write",
    looks_at="fs.protected_symlinks, fs.protected_hardlinks",
    remedy="sysctl fs.protected_symlinks=1 fs.protected_hardlinks=1",
    deploy=True,
)
def links(scene: Scene) -> Iterator[str]:
    """A link in /tmp leads who writes there to another file."""
    for name in ("fs.protected_symlinks", "fs.protected_hardlinks"):
        if scene.sysctl(name) == "0":
            yield f"{name} is 0"


@check(
    "PRC-15",
    Severity.LOW,
    "limits of time",
    looks_at="task_time_limit",
    remedy="task_time_limit = 3600, or what your longest task takes",
)
def time_limits(scene: Scene) -> Iterator[str]:
    """A task that never ends holds a slot for ever."""
    if scene.settings.task_time_limit is None:
        yield "task_time_limit is not set"


@check(
    "PRC-16",
    Severity.MEDIUM,
    "secrets that are handed to tasks",
    looks_at="worker_pass_environment",
    remedy="take the variable out of worker_pass_environment, and have the task read a file",
)
def passed(scene: Scene) -> Iterator[str]:
    """A variable is told to every process that a task starts."""
    for name in scene.settings.worker_pass_environment:
        if _SECRET_WORDS.search(name):
            yield f"worker_pass_environment names {name}"


@check(
    "PRC-17",
    Severity.HIGH,
    "addresses that can be foretold",
    looks_at="kernel.randomize_va_space",
    remedy="sysctl kernel.randomize_va_space=2",
    deploy=True,
)
def addresses(scene: Scene) -> Iterator[str]:
    """Faults in memory are used far more easily."""
    told = scene.sysctl("kernel.randomize_va_space")
    if not told:
        raise UncheckedError("kernel.randomize_va_space cannot be read")
    if told != "2":
        yield f"kernel.randomize_va_space is {told}"


@check(
    "PRC-18",
    Severity.MEDIUM,
    "a folder of its own for temporary files",
    looks_at="TMPDIR, the mode of /tmp",
    remedy="chmod 1777 /tmp; PrivateTmp=yes in the unit",
    deploy=True,
)
def temporary(scene: Scene) -> Iterator[str]:
    """Without the sticky bit, others rename what a task has written."""
    place = Path(scene.environ.get("TMPDIR") or str(scene.root / "tmp"))
    found = scene.status(place)
    if found is not None and found.st_mode & 0o002 and not found.st_mode & 0o1000:
        yield f"{place} can be written by all, and is not sticky"


CHECKS = (
    user,
    capabilities,
    sandbox,
    core_dumps,
    ptrace,
    loading,
    unit,
    swap,
    umask,
    new_privileges,
    enforced,
    best_effort,
    kernel,
    links,
    time_limits,
    passed,
    addresses,
    temporary,
)
