"""The profiles under which attempts run: what `LIMITS` says, as values of `Sandbox`."""

from __future__ import annotations

from typing import Any

from escapes.scene import Scene

_SHARED_THREADS = 300


def make_profiles(scene: Scene, level: str) -> dict[str, dict[str, Any]]:
    """Each kind of profile that this level can have, as its mapping."""
    limits = dict(scene.limits)
    # The kernel counts processes and threads together; where a user has others, with those, so that some
    # have to be let in.
    shared = 0 if level == "strict" else _SHARED_THREADS
    scene.limits["threads_at_most"] = limits["threads"] + 1 + shared
    scene.limits["processes_at_most"] = limits["processes_granted"] + limits["threads"]
    plain: dict[str, Any] = {
        "level": level,
        "memory": limits["memory"],
        "cpu": limits["cpu"],
        "threads": limits["threads"],
        "files": limits["files"],
        "file_size": limits["file_size"],
        "output": limits["output"],
        "log": limits["log"],
    }
    if level == "process":
        return {"plain": plain}
    plain |= {"read": [scene.paths["readable"]], "write": [scene.paths["work"]]}
    if level == "strict":
        plain["tmp"] = limits["tmp"]
    granted = f"127.0.0.1:{scene.ears.ports['granted']}"
    found = {"plain": plain, "listed": {**plain, "syscalls": "net", "network": [granted]}}
    if level == "strict":
        found["subprocess"] = {
            **plain,
            "read": [*plain["read"], "/bin", "/usr/bin", scene.paths["setuid"]],
            "syscalls": "subprocess",
            "processes": limits["processes_granted"],
        }
    return found
