"""Probing: what a machine enforces is found by trying, and what is refused is told with the reason."""

import ctypes
import json
import os
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

import cardoon
from cardoon.cli.main import cardoon as command
from cardoon.sandbox import landlock, probing
from cardoon.sandbox.kernel import machine
from cardoon.sandbox.layers import HELPFUL, NEEDED, REMEDIES, Layer, Layers
from cardoon.sandbox.limits import no_new_privileges
from cardoon.sandbox.profile import Level
from cardoon.worker.nest import child_pids
from tests.sandbox.nesting import apart, linux, users

pytestmark = linux

SEARCHED = f"{Path(cardoon.__file__).parent.parent}:{sysconfig.get_path('purelib')}"


def refuse(*names: str) -> None:
    """Have these calls fail with EPERM from here on, as container runtimes do."""
    known = machine()
    numbers = [known.numbers[one] for one in names]
    code = [(0x20, 0, 0, 0)]  # load the number
    for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
        code.append((0x15, left, 0, number))  # equal: to the last line
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | 1)]
    packed = b"".join(struct.pack("HBBI", *one) for one in code)
    held = ctypes.create_string_buffer(packed, len(packed))
    header = struct.pack("@HxxxxxxQ", len(code), ctypes.addressof(held))
    no_new_privileges()
    assert ctypes.CDLL(None).prctl(22, 2, header, 0, 0) == 0  # PR_SET_SECCOMP, a filter


def told(layers: Layers) -> dict[str, list[object]]:
    return {"reached": [layers.reached.text], **layers.to_mapping()}


@users
def test_a_layer_is_on_where_what_it_forbids_has_failed(as_user: bool):
    found = apart(lambda: told(probing.probe_here()), as_user=as_user)

    assert isinstance(found, dict)
    assert found["seccomp"] == [True, "socket(): EPERM"]
    assert found["landlock"][0], found["landlock"]
    assert found["reached"] == ["strict"], found


@users
def test_a_container_that_refuses_namespaces_is_confined_and_says_why(as_user: bool):
    def contained() -> dict[str, list[object]]:
        refuse("unshare", "mount", "setns", "move_mount", "fsopen")
        return told(probing.probe_here())

    found = apart(contained, as_user=as_user)

    assert isinstance(found, dict)
    assert found["reached"] == ["confined"]
    assert found["users"][0] is False
    assert "EPERM" in found["users"][1]
    assert "EPERM" in found["room"][1]


def test_where_namespaces_are_let_through_and_mounts_are_not_there_is_no_room():
    """As Ubuntu's AppArmor does it."""

    def contained() -> dict[str, list[object]]:
        refuse("fsopen", "move_mount", "open_tree")
        return told(probing.probe_here())

    found = apart(contained)

    assert isinstance(found, dict)
    assert found["reached"] == ["confined"]
    assert found["users"][0] is True
    assert found["room"][0] is False


def test_without_landlock_or_seccomp_only_processes_are_left():
    def contained() -> dict[str, list[object]]:
        refuse("landlock_create_ruleset", "seccomp")
        return told(probing.probe_here())

    found = apart(contained)

    assert isinstance(found, dict)
    assert found["reached"] == ["process"]
    assert (found["landlock"][0], found["seccomp"][0]) == (False, False)


def test_a_layer_that_forbids_nothing_is_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landlock.Ruleset, "restrict_self", lambda self: None)

    found = apart(lambda: told(probing.probe_here()))

    assert isinstance(found, dict)
    assert found["landlock"][0] is False
    assert "did not forbid" in str(found["landlock"][1])


def test_a_probe_that_dies_or_never_ends_is_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "SECONDS", 0.2)
    probes = {"landlock": lambda: os._exit(3), "seccomp": lambda: os.read(os.pipe()[0], 1)}
    monkeypatch.setattr(probing, "PROBES", probes)

    found = probing.probe_here()

    assert not found["landlock"].is_on
    assert "ended with 3" in found["landlock"].detail
    assert not found["seccomp"].is_on
    assert found["users"].detail == "was not tried"


def test_probing_leaves_this_process_as_it_was():
    before = (os.getuid(), os.getgroups(), Path("/proc/self/ns/mnt").readlink())
    children = child_pids()

    found = probing.probe()

    assert found.reached is Level.STRICT
    assert before == (os.getuid(), os.getgroups(), Path("/proc/self/ns/mnt").readlink())
    assert set(child_pids()) <= set(children)


def test_layers_come_through_json_and_what_was_not_tried_is_missing():
    layers = Layers([Layer("ids", is_on=True, detail="uid 7"), Layer("limits", True, "set")])

    again = Layers.from_mapping(json.loads(json.dumps(layers.to_mapping())))

    assert list(again.values()) == list(layers.values())
    assert again.reached is Level.PROCESS
    assert [one.name for one in again.missing_for(Level.CONFINED)] == [
        "privileges",
        "landlock",
        "seccomp",
    ]
    assert set(REMEDIES) == set(NEEDED) | set(HELPFUL) == set(layers)


def test_check_prints_each_layer_and_the_level():
    done = CliRunner().invoke(command, ["sandbox", "check", "--level", "strict"])

    assert done.exit_code == 0, done.output
    assert "level reached: strict" in done.output
    assert "landlock" in done.output
    assert "Delegate=yes" in done.output  # this machine has no cgroup of ours


def test_check_fails_where_the_level_is_not_reached(tmp_path: Path):
    """The command itself, under a filter as a container has it."""
    program = (
        "from tests.sandbox.test_probing import refuse; refuse('unshare');"
        "from cardoon.cli.main import main; main()"
    )
    results = {}
    for level in ("confined", "strict"):
        done = subprocess.run(
            [sys.executable, "-c", program, "sandbox", "check", "--json", "--level", level],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": f"{SEARCHED}:{Path.cwd()}"},
        )
        results[level] = (done.returncode, json.loads(done.stdout))

    assert (results["confined"][0], results["strict"][0]) == (0, 1)
    found = results["strict"][1]
    assert (found["reached"], found["needed"]) == ("confined", "strict")
    users = next(one for one in found["layers"] if one["name"] == "users")
    assert (users["on"], users["level"]) == (False, "strict")
    assert "user namespaces" in users["remedy"]
