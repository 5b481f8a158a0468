"""Checks of the code that runs: who can change it, what else Python would load, and how old it is."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

from cardoon.doctor.advisories import OPENSSL, PACKAGES, is_older
from cardoon.doctor.check import Severity, check
from cardoon.doctor.scene import OTHERS_WRITE, NotApplicableError, Scene, UncheckedError
from cardoon.exceptions import SecurityError

_PATH_HOOKS = ("sitecustomize.py", "usercustomize.py")
_KNOWN_PTH = re.compile(
    r"(distutils-precedence|__editable__.*|_?virtualenv|.*-nspkg|a1_coverage|coverage|matplotlib.*)\.pth"
)
"""What tools of packaging write, with code in it."""
_MOST_TOLD = 5
_OLDEST = 180
"""Days that a baseline is good for: a host that was not brought up to date for longer is a finding itself."""


def _folders(scene: Scene) -> list[Path]:
    found = [Path(one) for one in dict.fromkeys(scene.sys_path) if one and Path(one).is_dir()]
    if not found:
        raise UncheckedError("sys.path names no folder")
    return found


@check(
    "COD-01",
    Severity.CRITICAL,
    "code that the worker's user can change",
    looks_at="owner and mode of the folders of sys.path",
    remedy="chown -R root:root FOLDER; chmod -R go-w FOLDER; install as root, run as another user",
    deploy=True,
)
def own_code(scene: Scene) -> Iterator[str]:
    """A task that breaks out stays for good, as part of the program."""
    if scene.uid == 0:
        raise UncheckedError("to root everything is writable (PRC-01)")
    for folder in _folders(scene):
        found = scene.status(folder)
        if found is not None and found.st_uid == scene.uid and found.st_mode & stat.S_IWUSR:
            yield f"{folder} belongs to the user who runs tasks"


@check(
    "COD-02",
    Severity.CRITICAL,
    "code that others can change",
    looks_at="mode of the folders of sys.path",
    remedy="chmod go-w FOLDER, or take it out of PYTHONPATH",
)
def others_code(scene: Scene) -> Iterator[str]:
    """Whoever can write there runs code in every process of Python that imports."""
    if "" in scene.sys_path:
        yield "sys.path has '', the folder where one happens to be"
    for folder in _folders(scene):
        found = scene.status(folder)
        if found is not None and found.st_mode & stat.S_IWOTH:
            yield f"{folder} has mode {stat.S_IMODE(found.st_mode):04o}"


@check(
    "COD-04",
    Severity.HIGH,
    "code that Python runs by itself",
    looks_at=".pth files with code, sitecustomize and usercustomize on sys.path",
    remedy="look who has put it there; remove it, or waive it with a reason",
    deploy=True,
)
def hooks(scene: Scene) -> Iterator[str]:
    """It runs before the program's first line, in every process."""
    for folder in _folders(scene):
        for path in sorted(folder.glob("*.pth")):
            if not _KNOWN_PTH.fullmatch(path.name) and _runs_code(path):
                yield f"{path} runs code when Python starts"
        for name in _PATH_HOOKS:
            if (folder / name).exists() and not str(folder).startswith("/usr/lib/python"):
                yield f"{folder / name} runs when Python starts"


def _runs_code(path: Path) -> bool:
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise UncheckedError(f"{path}: {error.strerror}") from error
    return any(line.startswith(("import ", "import\t")) for line in lines)


@check(
    "COD-05",
    Severity.MEDIUM,
    "packages with known faults",
    looks_at="versions of what is installed, against a small table that Cardoon brings along",
    remedy="pip install --upgrade PACKAGE; a scanner with a current database knows more",
)
def packages(scene: Scene) -> Iterator[str]:
    """Only what the table names is found."""
    installed = scene.packages()
    for one in PACKAGES:
        version = installed.get(one.name, "")
        if version and is_older(version, one.fixed_in):
            yield f"{one.name} {version}: {one.id}, fixed in {one.fix_for(version)}"


@check(
    "COD-06",
    Severity.MEDIUM,
    "OpenSSL of Python",
    looks_at="ssl.OPENSSL_VERSION",
    remedy="upgrade the system's OpenSSL, or the Python that brings its own",
)
def openssl(scene: Scene) -> Iterator[str]:
    """All connections of ours go through it."""
    found = re.match(r"OpenSSL (\d+)\.(\d+)\.\d+", scene.openssl)
    if not found:
        raise UncheckedError(f"{scene.openssl or 'no version'} is not OpenSSL's way to say it")
    if (int(found[1]), int(found[2])) < OPENSSL:
        yield f"{found.group()} gets no repairs any more"


@check(
    "COD-07",
    Severity.LOW,
    "packages of a user's own",
    looks_at="whether Python takes packages from a home",
    remedy="PYTHONNOUSERSITE=1, or python -s",
)
def user_site(scene: Scene) -> Iterator[str]:
    """They lie where the user who runs tasks can write."""
    if scene.user_site and Path(scene.user_site).is_dir():
        yield f"{scene.user_site} is on sys.path"


@check(
    "COD-08",
    Severity.HIGH,
    "owner and mode of the app's folder",
    looks_at="the folder where the worker starts",
    remedy="chown -R root FOLDER; chmod -R go-w FOLDER",
)
def app_folder(scene: Scene) -> Iterator[str]:
    """The app is imported from there."""
    if not scene.folder:
        raise NotApplicableError("no folder is known")
    if wrong := scene.open_to_others(scene.folder, OTHERS_WRITE):
        yield wrong
    told = [
        wrong
        for path in sorted(Path(scene.folder).glob("*.py"))
        if (wrong := scene.open_to_others(path, OTHERS_WRITE))
    ]
    yield from told[:_MOST_TOLD]


@check(
    "COD-03",
    Severity.HIGH,
    "a list that files are held against",
    looks_at="integrity_baseline, integrity_key",
    remedy="sign a baseline elsewhere, and set integrity_baseline and integrity_key (docs/integrity.md)",
    deploy=True,
)
def baseline(scene: Scene) -> Iterator[str]:
    """Code that was changed is noticed by nobody otherwise."""
    if not scene.settings.integrity_baseline:
        yield "integrity_baseline is not set"
    elif not scene.settings.integrity_key:
        yield "integrity_key is not set, so nobody can have signed the baseline"


@check(
    "COD-09",
    Severity.HIGH,
    "whose list it is, and how old",
    looks_at="the signature, host, serial and date of integrity_baseline",
    remedy="`cardoon integrity init`, and have it signed elsewhere again (docs/integrity.md)",
    deploy=True,
)
def approval(scene: Scene) -> Iterator[str]:
    """One that nobody has approved is whatever the intruder made it."""
    settings = scene.settings
    if not (settings.integrity_baseline and settings.integrity_key):
        raise NotApplicableError("no baseline and key are set (COD-03)")
    try:
        made = scene.approved()
    except SecurityError as error:
        yield str(error)
        return
    days = (scene.now - made) / 86_400
    if days > _OLDEST:
        yield f"{settings.integrity_baseline} was made {days:.0f} days ago"


CHECKS = (
    own_code,
    others_code,
    baseline,
    approval,
    hooks,
    packages,
    openssl,
    user_site,
    app_folder,
)
