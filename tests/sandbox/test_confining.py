"""All layers together: what a task reaches at each level."""

import json
import multiprocessing
import multiprocessing.popen_fork
import multiprocessing.queues
import multiprocessing.synchronize
import os
import select
import socket
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cardoon.sandbox.confining import Confinement
from cardoon.sandbox.ground import Ground
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.layers import HELPFUL, NEEDED, Layer, Layers
from cardoon.sandbox.profile import Sandbox
from cardoon.sandbox.rooting import WORK
from tests.sandbox.nesting import (
    EVERY,
    NOBODY,
    apart,
    attempt,
    in_task,
    linux,
    readable_ground,
    run_task,
    users,
)
from tests.sandbox.watched import as_nobody, echo_server, room

pytestmark = linux
DENIED, REFUSED = os.strerror(13), os.strerror(1)
MISSING, READ_ONLY = os.strerror(2), os.strerror(30)


def without(*names: str) -> Layers:
    every = (*NEEDED, *HELPFUL)
    return Layers(Layer(one, is_on=one not in names, detail="taken out") for one in every)


@pytest.fixture
def shop(reachable: Path) -> Path:
    """An app's directory with secrets in it, and a directory beside it to write to."""
    place = reachable / "shop"
    (place / "keys").mkdir(parents=True)
    (place / "shop.py").write_text("price = 1\n")
    (place / ".env").write_text("PASSWORD=hunter2\n")
    (place / "keys" / "worker.key").write_text("PRIVATE\n")
    (place / "keys" / "readme").write_text("keys\n")
    (place / "broker.db").write_text("messages\n")
    (reachable / "out").mkdir(mode=0o777)
    (reachable / "out").chmod(0o777)
    return place


def ground_of(shop: Path) -> Ground:
    code, _ = readable_ground()
    return Ground((*code, str(shop)), (str(shop / "broker.db"), str(shop / "later.db")))


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_a_task_reads_its_code_and_none_of_the_secrets_in_it(level: str, shop: Path, as_user: bool):
    def work() -> dict[str, str]:
        names = ("shop.py", "keys/readme", ".env", "keys/worker.key", "broker.db", "later.db")
        return {one: attempt((shop / one).read_bytes) for one in names}

    found = run_task(Sandbox(level=level), work, ground=ground_of(shop), as_user=as_user)

    assert isinstance(found, dict)
    assert (found["shop.py"], found["keys/readme"]) == ("open", "open")
    hidden = MISSING if level == "strict" else DENIED
    assert {found[".env"], found["keys/worker.key"], found["broker.db"]} == {hidden}
    assert found["later.db"] == MISSING


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_a_secret_that_is_replaced_stays_out_of_sight(level: str, shop: Path, as_user: bool):
    ready, begun = os.pipe()
    done, replaced = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(begun)
        if os.read(ready, 1):
            for name in (".env", "broker.db", "later.db"):
                made = shop.parent / "made"
                made.write_text("NEW")
                made.chmod(0o644)
                made.replace(shop / name)
            os.write(replaced, b"x")
        os._exit(0)

    def before() -> None:
        os.close(replaced)
        os.write(begun, b"x")
        os.read(done, 1)

    found = run_task(
        Sandbox(level=level),
        lambda: [attempt((shop / one).read_bytes) for one in (".env", "broker.db", "later.db")],
        ground=ground_of(shop),
        as_user=as_user,
        before=before,
    )

    for one in (ready, begun, done, replaced):
        os.close(one)
    os.waitpid(pid, 0)
    assert found == [MISSING if level == "strict" else DENIED] * 3
    assert (shop / "later.db").read_text() == "NEW"


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_a_task_reaches_nothing_else(level: str, shop: Path, as_user: bool):
    def work() -> dict[str, str]:
        return {
            "shadow": attempt(Path("/etc/shadow").read_bytes),
            "code": attempt(lambda: (shop / "shop.py").write_text("x")),
            "new code": attempt(lambda: (shop / "new.py").write_text("x")),
            "tmp": attempt(lambda: Path("/tmp/made").write_text("x")),
            "socket": attempt(socket.socket),
            "fork": attempt(lambda: os.fork() or os._exit(0)),
            "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
            "the nest": attempt(lambda: os.kill(os.getppid() or 1, 9)),
            "home": attempt(lambda: list(Path("/root").iterdir())),
        }

    found = run_task(Sandbox(level=level), work, ground=ground_of(shop), as_user=as_user)

    assert isinstance(found, dict)
    assert "open" not in [one for name, one in found.items() if name != "the nest"]
    assert (shop / "shop.py").read_text() == "price = 1\n"


@users
def test_a_task_is_nobody_and_has_no_powers(as_user: bool):
    def work() -> list[object]:
        status = Path("/proc/self/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return [os.getresuid(), os.getgroups(), fields["CapEff"], fields["CapPrm"], fields["NoNewPrivs"], fields["Seccomp"]]  # fmt: skip

    found = run_task(Sandbox(level="strict"), work, as_user=as_user)

    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    assert found == [[uid] * 3, [], "0" * 16, "0" * 16, "1", "2"]


@users
def test_a_strict_task_is_alone_in_a_room_of_its_own(shop: Path, as_user: bool):
    profile = Sandbox(level="strict", tmp="1MiB", write=[str(shop.parent / "out")])

    def work() -> dict[str, object]:
        Path("note").write_text("mine")
        return {
            "pid": os.getpid(),
            "processes": sorted(
                one.name for one in Path("/proc").iterdir() if one.name.isdecimal()
            ),
            "cwd": str(Path.cwd()),
            "temp": tempfile.gettempdir(),
            "home": str(Path.home()),
            "host": os.uname().nodename,
            "users": len(Path("/etc/passwd").read_text().splitlines()),
            "out": attempt(lambda: (shop.parent / "out" / "made").write_text("x")),
            "files": [one.name for one in Path(WORK).iterdir()],
            "root": attempt(lambda: Path("/made").write_text("x")),
        }

    found = run_task(profile, work, ground=ground_of(shop), as_user=as_user)

    assert found == {
        "pid": 1,
        "processes": ["1"],
        "cwd": WORK,
        "temp": WORK,
        "home": WORK,
        "host": "sandbox",
        "users": 2,
        "out": "open",
        "files": ["note"],
        "root": READ_ONLY,
    }
    assert (shop.parent / "out" / "made").read_text() == "x"


@users
def test_tasks_may_share_semaphores_with_the_processes_they_start(as_user: bool):
    profile = Sandbox(level="strict", syscalls="subprocess", processes=2, tmp="1MiB")

    def work() -> int:
        queue = multiprocessing.get_context("fork").Queue()
        child = multiprocessing.get_context("fork").Process(target=lambda: queue.put(7))
        child.start()
        child.join()
        return queue.get()

    assert run_task(profile, work, as_user=as_user) == 7


@users
def test_a_private_directory_is_of_its_size_and_gone_with_the_task(as_user: bool):
    profile = Sandbox(level="strict", tmp="1MiB")

    def fill() -> list[str]:
        full = attempt(lambda: Path("big").write_bytes(bytes(2 << 20)))
        many = attempt(lambda: [Path(f"f{n}").touch() for n in range(5000)])
        return [full, many]

    def nest() -> object:
        confinement = Confinement(profile, readable_ground(), layers=EVERY)
        confinement.enter_nest()
        return [in_task(confinement, fill), in_task(confinement, lambda: list(Path().iterdir()))]

    assert apart(nest, as_user=as_user) == [[os.strerror(28)] * 2, []]


@users
@pytest.mark.parametrize("level", ["process", "confined", "strict"])
def test_variables_that_are_not_named_are_gone(
    level: str, as_user: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    monkeypatch.setenv("SHOP_NAME", "books")
    profile = Sandbox(level=level, env=["SHOP_NAME"])

    found = run_task(profile, lambda: dict(os.environ), as_user=as_user)

    assert isinstance(found, dict)
    assert found == {"SHOP_NAME": "books"}


@users
def test_threads_count_for_a_strict_task_alone(as_user: bool):
    profile = Sandbox(level="strict", threads=10)

    def begin() -> int:
        stop = threading.Event()
        count = 0
        try:
            for _ in range(40):
                threading.Thread(target=stop.wait, daemon=True).start()
                count += 1
        except RuntimeError:
            pass
        return count

    def nest() -> object:
        confinement = Confinement(profile, readable_ground(), layers=EVERY)
        confinement.enter_nest()
        return [in_task(confinement, begin) for _ in range(2)]

    assert apart(nest, as_user=as_user) == [10, 10]


@users
def test_the_nest_and_its_tasks_end_with_the_keeper(as_user: bool):
    ours, theirs = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        os.close(ours)
        if as_user:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        confinement = Confinement(Sandbox(level="strict"), readable_ground(), layers=EVERY)
        confinement.enter_nest()
        if confinement.fork() == 0:
            confinement.enter_task()
            os.write(theirs, b"up")
        while True:
            time.sleep(1)
    os.close(theirs)
    assert os.read(ours, 2) == b"up"

    os.kill(keeper, 9)

    os.waitpid(keeper, 0)
    assert os.read(ours, 1) == b""  # nobody has the other end any more
    os.close(ours)


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_many_tasks_leave_nothing_in_their_nest(level: str, as_user: bool):
    profile = Sandbox(level=level, tmp="1MiB" if level == "strict" else 0)

    def state() -> list[int]:
        counted = [len(list(Path("/proc/self/fd").iterdir()))]
        counted.append(len(Path("/proc/self/mounts").read_text().splitlines()))
        return counted

    def nest() -> object:
        confinement = Confinement(profile, readable_ground(), layers=EVERY)
        confinement.enter_nest()
        in_task(confinement, os.getpid)
        before = state()
        for _ in range(50):
            in_task(confinement, os.getpid)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return [before, state()]

    mounts = Path("/proc/self/mounts").read_text()
    before, after = apart(nest, as_user=as_user)

    assert before == after
    assert Path("/proc/self/mounts").read_text() == mounts


def test_a_missing_layer_is_an_error_that_names_it():
    with pytest.raises(ConfinementError, match="'strict' is not to be had here: room: taken out"):
        Confinement(Sandbox(level="strict"), readable_ground(), layers=without("room"))

    Confinement(Sandbox(level="confined"), readable_ground(), layers=without("room"))
    with pytest.raises(ConfinementError, match="landlock: taken out"):
        Confinement(Sandbox(), readable_ground(), layers=without("landlock"))


@users
def test_best_effort_does_what_there_is_and_says_which_level_that_makes(as_user: bool):
    def nest() -> object:
        confinement = Confinement(
            Sandbox(level="strict", tmp="1MiB"),
            readable_ground(),
            layers=without("users", "landlock"),
            unsafe_best_effort=True,
        )
        confinement.enter_nest()
        found = in_task(
            confinement, lambda: [attempt(socket.socket), attempt(Path("/etc/passwd").read_bytes)]
        )
        return [confinement.reached, found]

    assert apart(nest, as_user=as_user) == ["process/v1", [REFUSED, "open"]]


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_what_cannot_be_hidden_is_refused(level: str, shop: Path, as_user: bool):
    (shop.parent / "out" / "session.key").write_text("PRIVATE")
    out, code = str(shop.parent / "out"), readable_ground().code

    masked = run_task(Sandbox(level=level, write=[out]), os.getpid, as_user=as_user)
    secret = run_task(
        Sandbox(level=level, write=[out], mask=[]),
        os.getpid,
        ground=Ground(code, (f"{out}/later.db",)),
        as_user=as_user,
    )
    own_code = run_task(
        Sandbox(level=level, write=[str(shop.parent)], mask=[]),
        os.getpid,
        ground=Ground((*code, str(shop)), ()),
        as_user=as_user,
    )

    if level == "strict":
        assert masked == 1  # covered there
    else:
        assert "session.key" in str(masked)
    assert "holds a secret" in str(secret)
    assert "later.db" in str(secret)
    assert "holds code" in str(own_code)


@users
def test_a_masked_file_in_a_directory_that_is_written_is_covered(shop: Path, as_user: bool):
    out = shop.parent / "out"
    (out / "session.key").write_text("PRIVATE")

    def work() -> list[object]:
        key = out / "session.key"
        return [key.read_text(), attempt(lambda: key.write_text("x")), attempt(key.unlink)]

    found = run_task(Sandbox(level="strict", write=[str(out)]), work, as_user=as_user)

    assert isinstance(found, list)
    assert found[0] == ""
    assert "open" not in found[1:]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_code_that_the_tasks_user_cannot_read_is_refused_by_name(reachable: Path):
    place = reachable / "private"
    place.mkdir(mode=0o700)
    (place / "app.py").write_text("x = 1\n")
    ground = Ground((*readable_ground().code, str(place)), ())

    for level in ("process", "confined", "strict"):
        found = run_task(Sandbox(level=level), os.getpid, ground=ground)
        assert f"{str(place)!r} cannot be read by uid 65534" in str(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_code_that_the_tasks_user_cannot_see_is_refused_unless_it_is_mounted(reachable: Path):
    place = reachable / "private" / "code"
    place.mkdir(parents=True)
    (place / "app.py").write_text("x = 1\n")
    place.parent.chmod(0o700)
    ground = Ground((*readable_ground().code, str(place)), ())

    for level in ("process", "confined"):
        found = run_task(Sandbox(level=level), os.getpid, ground=ground)
        assert f"{str(place)!r} cannot be read by uid 65534" in str(found)
    read = run_task(Sandbox(level="strict"), (place / "app.py").read_text, ground=ground)
    assert read == "x = 1\n"


def test_a_process_with_threads_is_no_nest():
    def nest() -> object:
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        try:
            Confinement(Sandbox(), readable_ground(), layers=EVERY).enter_nest()
        finally:
            stop.set()
            thread.join()
        return None

    assert "2 threads run" in str(apart(nest))


@pytest.mark.parametrize("level", ["process", "confined", "strict"])
def test_a_thread_that_begins_with_a_fork_is_not_left_outside(level: str):
    def nest() -> object:
        confinement = Confinement(Sandbox(level=level), readable_ground(), layers=EVERY)
        confinement.enter_nest()
        stay = threading.Thread(target=threading.Event().wait, daemon=True)
        os.register_at_fork(after_in_child=stay.start)
        return in_task(confinement, lambda: "it ran")

    assert "2 threads run" in str(apart(nest))


@pytest.mark.parametrize("level", ["process", "confined", "strict"])
def test_a_thread_that_ends_in_a_moment_is_waited_for(level: str):
    def nest() -> object:
        def start() -> None:
            threading.Thread(target=time.sleep, args=(0.05,), daemon=True).start()

        confinement = Confinement(Sandbox(level=level), readable_ground(), layers=EVERY)
        start()
        confinement.enter_nest()
        os.register_at_fork(after_in_child=start)
        return in_task(confinement, lambda: "it ran")

    assert apart(nest) == "it ran"


def test_the_ground_comes_through_json_and_knows_only_absolute_paths():
    ground = readable_ground("/srv/key")

    assert Ground.from_mapping(json.loads(json.dumps(ground.to_mapping()))) == ground
    with pytest.raises(ConfinementError, match="'key' is not an absolute path"):
        Ground.from_mapping({"code": [], "secrets": ["key"]})


@users
@pytest.mark.parametrize("level", ["confined", "strict"])
def test_what_is_refused_is_told_to_the_warden(level: str, as_user: bool):
    def scene() -> object:
        profile = Sandbox(level=level)
        with room(profile) as watched:
            found = apart(
                lambda: through_the_hatch(profile, watched, lambda: attempt(socket.socket))
            )
            told = hear(watched.watch)
        return [found, told]

    found = as_nobody(scene) if as_user else scene()

    assert found == [REFUSED, [[7, "socket"]]]


@users
def test_listed_addresses_are_reached_from_a_room_and_no_others(as_user: bool):
    def scene() -> object:
        with echo_server() as port, echo_server() as other:
            listed = [
                f"127.0.0.1:{port}",
                "db.internal:5432",
                "198.51.100.7:5432",
                "[2001:db8::7]:80",
            ]
            profile = Sandbox(level="strict", syscalls="net", network=listed)

            def work() -> list[object]:
                return [
                    exchange("127.0.0.1", port),
                    exchange("127.0.0.1", other),
                    exchange("192.0.2.1", 80),
                    socket.gethostbyname("db.internal"),
                    *(attempt(lambda one=one: connect(*one)) for one in foreign),
                ]

            foreign = (("db.internal", 5432), ("198.51.100.7", 5432), ("2001:db8::7", 80))
            with room(profile) as watched:
                return apart(lambda: through_the_hatch(profile, watched, work))

    found = as_nobody(scene) if as_user else scene()

    unreachable = os.strerror(101)
    assert found == ["hello", os.strerror(111), unreachable, "127.64.0.1", "open", "open", "open"]


def through_the_hatch(profile: Sandbox, watched, work) -> object:
    confinement = Confinement(profile, readable_ground(), layers=EVERY)
    hatch = watched.hatch.detach()
    confinement.enter_nest(hatch)
    return in_task(confinement, work, hatch=hatch, token=7)


def connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=10):
        """The warden has accepted it; what it makes of it is its own tests' matter."""


def exchange(host: str, port: int) -> str:
    try:
        with socket.create_connection((host, port), timeout=10) as client:
            client.sendall(b"hello")
            return client.recv(5).decode()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)


def hear(watch) -> list[list[object]]:
    """The refusals told within a short time after the first."""
    told = []
    while select.select([watch], [], [], 5 if not told else 0.3)[0]:
        told += [[one.token, one.rule] for one in watch.receive()]
    return told
