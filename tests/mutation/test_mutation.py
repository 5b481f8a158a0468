"""The tool itself, and the part of it that is fast: every refusal of the gate, taken out in turn."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.mutation import run
from tests.mutation.mutants import find_mutants
from tests.mutation.running import put_in

SOURCE = '''
def check(number, limit):
    """Raise unless it is within."""
    if number < 0 or not number <= limit:
        raise ValueError(number)
    note(number)

class Box:
    def __init__(self):
        super().__init__()
        self.full = True

    @property
    def size(self):
        return 1 if self.full else 0

if True:
    raise_nothing = 1
'''


def test_everything_that_may_be_a_check_is_changed():
    found = {(one.kind, one.function, one.change) for one in find_mutants(SOURCE)}

    assert found == {
        ("not", "check", "not number <= limit -> number <= limit"),
        ("compare", "check", "number < 0 -> number <= 0"),
        (
            "word",
            "check",
            "number < 0 or not number <= limit -> number < 0 and (not number <= limit)",
        ),
        ("if", "check", "number < 0 or not number <= limit -> False"),
        ("if", "check", "number < 0 or not number <= limit -> True"),
        ("compare", "check", "number <= limit -> number < limit"),
        ("raise", "check", "raise ValueError(number) -> pass"),
        ("call", "check", "note(number) -> pass"),
        ("call", "Box.__init__", "super().__init__() -> pass"),
        ("if", "Box.size", "self.full -> False"),
        ("if", "Box.size", "self.full -> True"),
    }


def test_a_mutant_is_put_into_what_was_imported(tmp_path):
    path = tmp_path / "checks.py"
    path.write_text(SOURCE.replace("note(number)", "pass"), encoding="utf-8")
    module = types.ModuleType("checks")
    module.__file__ = str(path)
    exec(compile(path.read_text(), path, "exec"), vars(module))
    check = module.check
    mutants = {one.change: one for one in find_mutants(path.read_text())}

    with pytest.raises(ValueError, match="7"):
        check(7, 5)
    put_in(module, mutants["raise ValueError(number) -> pass"])
    check(7, 5)
    put_in(module, mutants["super().__init__() -> pass"])
    put_in(module, mutants["self.full -> False"])
    assert module.Box().size == 0


def test_every_module_is_there():
    root = Path(run.ROOT, "src")

    assert all((root / f"{name.replace('.', '/')}.py").exists() for name in run.MODULES.values())


@pytest.mark.slow
def test_no_refusal_of_the_gate_can_be_taken_out_unnoticed():
    command = ["-m", "tests.mutation.run", "--only", "gate", "--kind", "raise", "--few-tests"]

    finished = subprocess.run(
        [sys.executable, *command],
        cwd=run.ROOT,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " 0 explained, 0 not" in finished.stdout
