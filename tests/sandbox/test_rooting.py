"""Plans and rooms: what is granted is there, what is not is not, and no link leads out."""

import os
from pathlib import Path

import pytest

from cardoon.sandbox import namespaces, planning
from cardoon.sandbox.ground import Ground
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.planning import Plan, plan_for
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.rooting import Room, open_granted, own_files
from tests.sandbox.nesting import NOBODY, apart, attempt, heard, linux, tell, users

pytestmark = linux
MISSING, READ_ONLY = os.strerror(2), os.strerror(30)


@pytest.fixture
def place(reachable: Path) -> Path:
    made = reachable
    for one in ("app/main.py", "app/deep/a.txt", "app/deep/b.key", "app/deep/c/d.txt", "out/x.txt"):
        (made / one).parent.mkdir(parents=True, exist_ok=True)
        (made / one).write_text(one)
    (made / "out").chmod(0o777)
    return made


def in_room(plan: Plan, work, *, as_user: bool = False, change=lambda: None) -> object:
    """What `work` returns in a room; `change` happens between planning and building."""

    def build() -> object:
        root = os.geteuid() == 0
        uid, gid = (NOBODY, NOBODY) if root else (os.getuid(), os.getgid())
        room = Room(plan, own_files(uid=uid, gid=gid, hosts={"db.internal": "127.64.0.1"}))
        change()
        if root:
            namespaces.drop_groups()
            room.take()
        flags = namespaces.NEW_MOUNTS | namespaces.NEW_PROCESSES
        namespaces.unshare_users(flags, uid=uid, gid=gid)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:

            def inside() -> object:
                room.build()
                return work()

            tell(theirs, inside)
        os.close(theirs)
        with os.fdopen(ours, "rb") as pipe:
            found = pipe.read()
        os.waitpid(pid, 0)
        return heard(found)

    return apart(build, as_user=as_user)


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


@users
def test_a_room_holds_what_is_granted_and_is_read_only(place: Path, as_user: bool):
    plan = Plan()
    plan.add(str(place / "app"))
    plan.add(str(place / "out"), is_writable=True)
    plan.add_device("/dev/null")

    def work() -> dict[str, object]:
        return {
            "root": names(Path("/")),
            "dev": names(Path("/dev")),
            "beside": names(place),
            "app": attempt(lambda: (place / "app" / "new").write_text("x")),
            "out": attempt(lambda: (place / "out" / "new").write_text("x")),
            "null": attempt(lambda: Path("/dev/null").write_text("x")),
            "made": attempt(lambda: Path("/made").write_text("x")),
            "hosts": Path("/etc/hosts").read_text(),
            "mounts": len(Path("/proc/self/mounts").read_text().splitlines()),
        }

    found = in_room(plan, work, as_user=as_user)

    assert isinstance(found, dict)
    assert set(found["root"]) == {"dev", "etc", "proc", "sandbox", "tmp"}
    assert found["dev"] == ["null"]
    assert found["beside"] == ["app", "out"]
    assert (found["app"], found["out"]) == (READ_ONLY, "open")
    assert (found["null"], found["made"]) == ("open", READ_ONLY)
    assert "127.64.0.1\tdb.internal" in found["hosts"]
    assert found["mounts"] == 5  # the root, /proc, and those three


@users
def test_what_is_hidden_is_left_out_of_a_directory_and_the_rest_is_there(
    place: Path, as_user: bool
):
    (place / "app" / "deep" / "link").symlink_to("a.txt")
    (place / "app" / "deep" / "out").symlink_to("/etc/passwd")
    plan = Plan()
    plan.add(str(place / "app"), hidden=[str(place / "app/deep/b.key")])

    def work() -> list[object]:
        deep = place / "app" / "deep"
        return [names(deep), (deep / "link").read_text(), (deep / "c" / "d.txt").read_text(),
                attempt(lambda: (deep / "new").write_text("x")),
                (deep / "out").read_text().startswith("root:x:0:0::/:")]  # fmt: skip

    found = in_room(plan, work, as_user=as_user)

    files = ["a.txt", "c", "link", "out"]
    assert found == [files, "app/deep/a.txt", "app/deep/c/d.txt", READ_ONLY, True]


@users
def test_links_on_the_way_lead_where_they_did(place: Path, as_user: bool):
    (place / "current").symlink_to("app")
    (place / "absolute").symlink_to(place / "current" / "deep")
    plan = Plan()
    plan.add(str(place / "absolute"))

    found = in_room(plan, (place / "absolute" / "a.txt").read_text, as_user=as_user)

    assert found == "app/deep/a.txt"


@users
def test_a_link_that_takes_the_place_of_what_was_granted_is_not_followed(
    place: Path, as_user: bool
):
    plan = Plan()
    plan.add(str(place / "out"), is_writable=True)

    def swap() -> None:
        if (place / "out").is_symlink():
            return
        (place / "out").rename(place / "old")
        (place / "out").symlink_to("/etc")

    place.chmod(0o777)
    found = in_room(plan, lambda: names(place / "out"), as_user=as_user, change=swap)

    assert "out' cannot be mounted: " in str(found)
    assert "ELOOP" in str(found)
    with pytest.raises(ConfinementError, match="ELOOP"):
        open_granted(str(place / "out"))


@users
def test_a_link_inside_what_is_written_does_not_move_a_mount(place: Path, as_user: bool):
    """What a task of before left there may stand where something is to be mounted."""
    (place / "out" / "inner").mkdir()
    (place / "out" / "inner").chmod(0o777)
    plan = Plan()
    plan.add(str(place / "out"), is_writable=True)
    plan.covers[str(place / "out" / "inner" / "masked")] = False
    (place / "out" / "inner" / "masked").symlink_to("/etc/passwd")

    found = in_room(plan, lambda: "built", as_user=as_user)

    assert "masked' cannot be placed: " in str(found)
    assert "ELOOP" in str(found)


def test_what_is_inside_something_granted_is_not_mounted_again(place: Path):
    plan = Plan()
    for one in ("app", "app/deep", "app/main.py", "out"):
        plan.add(str(place / one), is_writable=one == "out")
    plan.add(str(place / "app" / "deep" / "c"), is_writable=True)

    kept = [(one.path.removeprefix(f"{place}/"), one.is_writable) for one in plan.ordered()]

    assert kept == [("app", False), ("app/deep/c", True), ("out", True)]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nowhere", "'/nowhere' is not to be reached; create it or leave it out"),
        ("/", "'/' is the root; name the directories"),
        ("/proc/self", "a task has its own there"),
        ("/usr/../proc", "a task has its own there"),
    ],
)
def test_what_cannot_be_granted_is_refused_by_name(path: str, reason: str):
    def furnish() -> None:
        plan = Plan()
        plan.add(path)
        Room(plan, {})

    with pytest.raises(ConfinementError, match=reason):
        furnish()


def test_links_in_a_circle_and_files_for_devices_are_refused(place: Path):
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")

    with pytest.raises(ConfinementError, match="too many links"):
        Plan().add(str(place / "a"))
    with pytest.raises(ConfinementError, match="is no device"):
        Plan().add_device(str(place / "app" / "main.py"))


def test_too_many_pieces_are_refused(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(planning, "MAX_GRANTS", 2)

    with pytest.raises(ConfinementError, match="more than 2 paths to grant one by one"):
        Plan().add(str(place / "app"), hidden=[str(place / "app/deep/b.key")])


def test_a_plan_leaves_out_code_that_is_gone_but_not_what_a_profile_names(place: Path):
    ground = Ground((str(place / "app"), str(place / "gone")), ())

    plan = plan_for(Sandbox(level="strict"), ground)

    assert str(place / "gone") not in plan.grants
    with pytest.raises(ConfinementError, match="gone' is not to be reached"):
        plan_for(Sandbox(level="strict", read=[str(place / "gone")]), ground)


def test_nothing_is_granted_inside_a_secret_directory(place: Path):
    ground = Ground((str(place / "app"),), (str(place),))

    with pytest.raises(ConfinementError, match=r"app' is, or lies in, .* which no task may see"):
        plan_for(Sandbox(), ground)
    with pytest.raises(ConfinementError, match="out' is, or lies in, "):
        plan_for(Sandbox(read=[str(place / "out")]), Ground((), (str(place / "out"),)))
