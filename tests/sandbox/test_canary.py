"""The canary: silent where a level holds, and loud where it was left out."""

import os
from pathlib import Path

import pytest

from cardoon.sandbox import canary as birds
from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.ground import Ground, is_within
from cardoon.sandbox.profile import Sandbox
from tests.sandbox.nesting import EVERY, READABLE, apart, linux, readable_ground, users
from tests.sandbox.watched import as_nobody, room

pytestmark = linux


@pytest.fixture
def secret(reachable: Path) -> Path:
    made = reachable / "worker.key"
    made.write_text("PRIVATE")
    made.chmod(0o644)
    return made


def nest(profile: Sandbox, ground: Ground, hatch: int | None = None) -> object:
    confinement = Confinement(profile, ground, layers=EVERY)
    confinement.enter_nest(hatch)
    birds.prove(confinement, hatch)
    return "silent"


@users
@pytest.mark.parametrize(
    "profile",
    [
        Sandbox(level="process"),
        Sandbox(level="confined"),
        Sandbox(level="strict", tmp="1MiB"),
        Sandbox(level="strict", syscalls="subprocess", processes=3),
        Sandbox(level="strict", syscalls="net", network="loopback"),
    ],
    ids=["process", "confined", "strict", "subprocess", "net"],
)
def test_nothing_is_open_that_a_level_promises_to_close(
    profile: Sandbox, secret: Path, as_user: bool
):
    ground = readable_ground(str(secret))

    assert apart(lambda: nest(profile, ground), as_user=as_user) == "silent"


@users
def test_a_private_directory_that_stands_for_tmp_is_no_hole(as_user: bool):
    """Its link is in a room where nothing below /tmp is granted."""
    ground = Ground(tuple(one for one in READABLE if not is_within(one, "/tmp")), ())
    profile = Sandbox(level="strict", tmp="1MiB")

    assert apart(lambda: nest(profile, ground), as_user=as_user) == "silent"


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_it_sings_under_the_eyes_of_the_warden(level: str, as_user: bool):
    def scene() -> object:
        profile = Sandbox(level=level)
        with room(profile) as watched:
            return apart(lambda: nest(profile, readable_ground(), watched.hatch.detach()))

    assert (as_nobody(scene) if as_user else scene()) == "silent"


@users
def test_each_attack_works_where_nothing_confines(secret: Path, reachable: Path, as_user: bool):
    """Else its failure would say nothing."""
    code = reachable / "code"
    code.mkdir()
    code.chmod(0o777)
    ground = Ground((str(code),), (str(secret),))

    def free() -> object:
        confinement = Confinement(Sandbox(level="strict"), ground, layers=EVERY)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        return birds.canary(confinement)

    found = apart(free, as_user=as_user)

    assert isinstance(found, list)
    expected = {
        f"to open {secret}",
        f"to write to {code}",
        "to write to /tmp",
        "socket()",
        "a datagram socket",
        "a user namespace",
        "fork()",
        "to see other processes",
        "the machine's name",
    }
    assert expected <= set(found)
    if not as_user and os.geteuid() == 0:
        assert {
            "to open /etc/shadow",
            "to be root",
            "to read the nest's environment",
            "to signal the nest",
            "to trace the nest",
            "mount()",
        } <= set(found)


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_a_layer_that_was_left_out_is_told(level: str, secret: Path, as_user: bool):
    class Careless(Confinement):
        """Takes all but the filter."""

        def _load_filter(self, hatch: int | None, token: int) -> None:
            return

    def careless() -> object:
        confinement = Careless(Sandbox(level=level), readable_ground(str(secret)), layers=EVERY)
        confinement.enter_nest()
        birds.prove(confinement)
        return "silent"

    found = str(apart(careless, as_user=as_user))

    assert f"level {level!r} is in force, and still open is: socket(), a datagram socket" in found
    assert "worker.key" not in found


@users
def test_a_child_that_cannot_be_confined_is_told(as_user: bool):
    profile = Sandbox(level="confined", cwd="/nowhere")

    found = apart(lambda: nest(profile, readable_ground()), as_user=as_user)

    assert "canary: ConfinementError: sandbox: cwd: '/nowhere'" in str(found)


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_a_folder_of_secrets_in_a_readable_one_is_closed(
    level: str, reachable: Path, as_user: bool
):
    """At `confined` its names can be listed, so that alone is no reason not to start."""
    state = reachable / ".cardoon"
    state.mkdir(mode=0o755)
    (state / "store").write_text("PRIVATE")  # which no mask hides
    ground = readable_ground(str(state))
    profile = Sandbox(level=level, read=[str(reachable)])

    assert apart(lambda: nest(profile, ground), as_user=as_user) == "silent"


@users
def test_a_folder_of_secrets_that_is_granted_after_all_is_told(reachable: Path, as_user: bool):
    state = reachable / ".cardoon"
    state.mkdir(mode=0o755)
    (state / "store").write_text("PRIVATE")  # which no mask hides

    class Generous(Confinement):
        """Grants what it should hide."""

        def enter_nest(self, hatch=None):
            self.ground = readable_ground()
            super().enter_nest(hatch)
            self.ground = readable_ground(str(state))

    def careless() -> object:
        profile = Sandbox(read=[str(reachable)])
        confinement = Generous(profile, readable_ground(str(state)), layers=EVERY)
        confinement.enter_nest()
        birds.prove(confinement)
        return "silent"

    assert f"still open is: to open {state}" in str(apart(careless, as_user=as_user))
