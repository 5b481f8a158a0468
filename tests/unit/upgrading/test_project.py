"""Which files are rewritten, and how."""

from __future__ import annotations

import pytest

from cardoon.exceptions import ImproperlyConfigured
from cardoon.upgrading.project import upgrade

OLD = "from celery import Celery\n"
NEW = "from cardoon import Celery\n"


def test_a_folder_is_gone_through_and_what_is_not_the_projects_is_left(upgraded):
    left = ["venv/a.py", ".tox/b.py", "x/node_modules/c.py", "x/__pycache__/d.py", "notes.txt"]
    done = upgraded(files=dict.fromkeys(["one.py", "deep/er/two.py", *left], OLD))

    assert done.read("one.py") == done.read("deep/er/two.py") == NEW
    assert {done.read(name) for name in left} == {OLD}
    assert len(done.report.changed) == 2


def test_the_former_text_is_kept_beside_it(upgraded):
    done = upgraded(OLD)

    assert done.read("module.py.orig") == OLD


def test_the_oldest_text_stays_when_it_is_done_again(upgraded):
    upgraded(OLD, files={"module.py.orig": "older"})

    assert upgraded(OLD).read("module.py.orig") == "older"


def test_nothing_is_kept_if_so_wished_and_nothing_to_do_is_nothing_done(upgraded, tmp_path):
    upgraded(OLD, backup=False)
    before = (tmp_path / "module.py").stat()

    again = upgrade([tmp_path])

    assert again.changed == []
    assert (tmp_path / "module.py").stat().st_mtime_ns == before.st_mtime_ns
    assert [path.name for path in tmp_path.iterdir()] == ["module.py"]


def test_to_look_changes_nothing(upgraded, tmp_path):
    done = upgraded(OLD, write=False)

    assert (done.text, len(done.report.changed)) == (OLD, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["module.py"]


@pytest.mark.parametrize(
    "data",
    [
        b"print 'a file of another age'\nfrom celery import Celery\n",
        b"from celery import \xff\n",
        b"# coding: nonsense\nfrom celery import Celery\n",
        b"x = '\0'\n",
        b"x = " + b"(" * 5000,
    ],
)
def test_a_file_that_cannot_be_parsed_is_named_and_left(tmp_path, data):
    path = tmp_path / "broken.py"
    path.write_bytes(data)
    (tmp_path / "fine.py").write_text(OLD)

    report = upgrade([tmp_path])

    assert path.read_bytes() == data
    assert list(report.unreadable) == [path]
    assert (tmp_path / "fine.py").read_text() == NEW


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"from celery import Celery\r\nx = 1\r\n", b"from cardoon import Celery\r\nx = 1\r\n"),
        (b"\xef\xbb\xbffrom celery import Celery", b"\xef\xbb\xbffrom cardoon import Celery"),
        (
            "# coding: latin-1\nx = 'ü'; from celery import Celery\n".encode("latin-1"),
            "# coding: latin-1\nx = 'ü'; from cardoon import Celery\n".encode("latin-1"),
        ),
        (b"x = 1\n\x0cfrom celery import Celery\n", b"x = 1\n\x0cfrom cardoon import Celery\n"),
        (b"from celery \\\n    import Celery\n", b"from cardoon \\\n    import Celery\n"),
    ],
)
def test_every_other_byte_stays(tmp_path, before, after):
    path = tmp_path / "module.py"
    path.write_bytes(before)
    path.chmod(0o750)

    upgrade([path])

    assert path.read_bytes() == after
    assert path.stat().st_mode & 0o777 == 0o750


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    real = tmp_path / "real.txt"
    real.write_text(OLD)
    link = tmp_path / "link.py"
    link.symlink_to(real)

    report = upgrade([link, link])

    assert link.is_symlink()
    assert (real.read_text(), len(report.changed)) == (NEW, 1)


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ImproperlyConfigured, match=r"no file or folder '.*nowhere'"):
        upgrade([tmp_path / "nowhere"])


def test_a_module_named_by_config_from_object_is_one_of_settings(upgraded):
    done = upgraded(
        files={
            "proj/conf.py": "BROKER_URL = 'memory://'\n",
            "proj/app.py": "app.config_from_object('proj.conf')\n",
            "other.py": "BROKER_URL = 'memory://'\n",
            "web/conf.py": "x = 'BROKER_URL'\n",
        }
    )

    assert done.read("proj/conf.py") == "broker_url = 'memory://'\n"
    assert done.read("other.py") == "BROKER_URL = 'memory://'\n"
