"""The ground: what every task may read, and what is hidden in it."""

import os
import ssl
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cardoon
from cardoon.sandbox import ground as grounds
from cardoon.sandbox.ground import Ground, check_is_readable, find_code, find_hidden, granted_paths
from cardoon.sandbox.kernel import ConfinementError
from cardoon.sandbox.profile import Sandbox
from tests.sandbox.nesting import linux

pytestmark = linux


def covered(path: str, code: tuple[str, ...]) -> bool:
    return any(grounds.is_within(os.path.realpath(path), os.path.realpath(one)) for one in code)


def test_what_this_process_runs_on_is_found():
    code = find_code()

    for path in (
        os.__file__,
        cardoon.__file__,
        pytest.__file__,
        __file__,
        sys.executable,
        ssl.__file__,
        sysconfig.get_path("platstdlib"),
        "/etc/localtime",
        "/usr/lib",
    ):
        assert covered(path, code), path
    assert not covered("/etc/shadow", code)
    assert not covered(os.path.expanduser("~/.ssh"), code)  # noqa: PTH111
    assert "/" not in code
    assert len(code) == len({one for one in code if not any(
        other != one and grounds.is_within(one, other) for other in code
    )})  # fmt: skip


def test_code_that_was_imported_from_elsewhere_is_found(tmp_path: Path):
    """As from an editable install, whose finder knows a directory that no path names."""
    (tmp_path / "far" / "off").mkdir(parents=True)
    (tmp_path / "far" / "off" / "__init__.py").write_text("")
    (tmp_path / "single.py").write_text("")
    program = (
        "import importlib.util, sys\n"
        f"for name, path in (('off', {str(tmp_path / 'far/off/__init__.py')!r}), "
        f"('single', {str(tmp_path / 'single.py')!r})):\n"
        "    spec = importlib.util.spec_from_file_location(name, path)\n"
        "    sys.modules[name] = importlib.util.module_from_spec(spec)\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from cardoon.sandbox.ground import find_code\n"
        "print('\\n'.join(find_code()))\n"
    )

    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=True)

    code = tuple(done.stdout.decode().splitlines())
    assert str(tmp_path / "far" / "off") in code
    assert str(tmp_path / "single.py") in code
    assert not covered(str(tmp_path / "far"), code)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    made = tmp_path / "app"
    for one in ("conf/prod.pem", "conf/plain.txt", ".ssh/known", ".env", "main.py"):
        (made / one).parent.mkdir(parents=True, exist_ok=True)
        (made / one).write_text("x")
    return made


def hidden(profile: Sandbox, ground: Ground, base: Path) -> list[str]:
    return sorted(str(Path(one).relative_to(base)) for one in find_hidden(profile, ground))


def test_masks_match_names_anywhere_and_whole_paths(app: Path):
    ground = Ground((str(app),), ())

    assert hidden(Sandbox(), ground, app) == [".env", ".ssh", "conf/prod.pem"] or hidden(
        Sandbox(), ground, app
    ) == [".env", ".ssh", ".ssh/known", "conf/prod.pem"]
    assert hidden(Sandbox(mask=[str(app / "conf/*.txt")]), ground, app) == ["conf/plain.txt"]
    assert hidden(Sandbox(mask=[]), ground, app) == []


def test_a_link_hides_what_it_points_to(app: Path):
    (app / "server.key").symlink_to("conf/plain.txt")
    (app / "off.key").symlink_to("/etc/hostname")

    found = hidden(Sandbox(mask=["*.key"]), Ground((str(app),), ()), app)

    assert found == ["conf/plain.txt", "off.key", "server.key"]


def test_secrets_count_where_they_are_granted_and_whether_they_exist_or_not(app: Path):
    ground = Ground((str(app),), (str(app / "broker.db"), "/elsewhere/key"))

    assert hidden(Sandbox(mask=[]), ground, app) == ["broker.db"]


def test_what_is_installed_is_not_masked():
    ground = Ground(find_code(), ())
    packages = os.path.realpath(sysconfig.get_path("purelib"))

    found = find_hidden(Sandbox(mask=["*.py"]), ground)

    assert not any(grounds.is_within(one, packages) for one in found)
    assert __file__ in found


def test_the_walk_is_bounded(app: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(grounds, "MAX_ENTRIES", 3)

    with pytest.raises(ConfinementError, match="more than 3 files to look through; grant fewer"):
        find_hidden(Sandbox(), Ground((str(app),), ()))


def test_a_directory_that_leads_back_to_itself_ends(app: Path):
    (app / "loop").symlink_to(app)

    assert "main.py" in hidden(Sandbox(mask=["main.py"]), Ground((str(app),), ()), app)


def test_programs_and_the_resolver_are_granted_to_those_who_need_them():
    ground = Ground((), ())

    plain = granted_paths(Sandbox(), ground)
    starts = granted_paths(Sandbox(syscalls="subprocess", processes=1), ground)
    reaches = granted_paths(Sandbox(syscalls="net", network="any"), ground)

    assert "/usr/bin" in starts
    assert "/usr/bin" not in (*plain, *reaches)
    if Path("/etc/resolv.conf").exists():
        assert "/etc/resolv.conf" in reaches
    assert "/etc/resolv.conf" not in (*plain, *starts)


def test_what_cannot_be_read_is_named_with_who_cannot(tmp_path: Path):
    check_is_readable([str(tmp_path), __file__])

    with pytest.raises(ConfinementError, match="'/nowhere/at/all' cannot be read by uid"):
        check_is_readable(["/nowhere/at/all"])


def test_another_name_of_a_secret_is_hidden_too(app: Path, tmp_path: Path):
    secret = tmp_path / "worker.secret"
    secret.write_text("PRIVATE")
    (app / "innocent.txt").hardlink_to(secret)

    found = find_hidden(Sandbox(mask=[]), Ground((str(app),), (str(secret),)))

    assert found == (str(app / "innocent.txt"),)


def test_what_a_profile_names_itself_is_meant(app: Path):
    """As the certificate of a server, beside keys."""
    ground = Ground((str(app),), (str(app / ".env"),))
    profile = Sandbox(read=[str(app / "conf/prod.pem"), str(app / ".env")])

    assert "conf/prod.pem" not in hidden(profile, ground, app)
    assert ".env" in hidden(profile, ground, app)  # a secret is one, whoever names it


def test_packages_below_the_app_are_not_masked_either(app: Path):
    """As with a virtual environment in the project's directory."""
    certificates = app / ".venv/lib/python3.11/site-packages/certifi/cacert.pem"
    certificates.parent.mkdir(parents=True)
    certificates.write_text("public")

    found = hidden(Sandbox(), Ground((str(app),), ()), app)

    assert not any(one.startswith(".venv") for one in found)
    assert "conf/prod.pem" in found
