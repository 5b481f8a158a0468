"""Runs tests against mutants, each in a process of its own that is forked from one that has them ready.

The tests are imported and collected once. A first run writes down which lines of the modules each test
comes to; then every mutant is judged by those that come to its line, the fastest first, and the first
that fails is enough. A mutant is put in by giving the functions of the imported module other code.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import inspect
import json
import os
import resource
import signal
import sys
import threading
import time
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mutation.mutants import Mutant, find_mutants

SECONDS = 60
"""Of the processor for one mutant; one that takes more goes round in a circle, and that is noticed."""
BYTES = 4 << 30
"""Of memory, for the same reason."""
KILLED, SURVIVED, UNREACHED, BROKEN = "killed", "survived", "unreached", "cannot be put in"
_CANNOT = 3
"""The exit status of a child whose mutant did not fit."""


@dataclasses.dataclass(slots=True)
class Verdict:
    """What became of a mutant."""

    module: str
    mutant: Mutant
    outcome: str
    test: str = ""
    """Which noticed it."""


class Judge:
    """A pytest plugin that judges mutants instead of running the tests once."""

    def __init__(self, modules: Sequence[str], *, kinds: Sequence[str], jobs: int, folder: Path):
        self._modules = {name: importlib.import_module(name) for name in modules}
        self._kinds = kinds
        self._jobs = jobs
        self._folder = folder
        self._spent: dict[str, float] = {}
        self._reach: dict[tuple[str, int], set[str]] = collections.defaultdict(set)
        self.verdicts: list[Verdict] = []
        self.broken = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """In place of running them."""
        if session.testsfailed or not session.items:
            self.broken = "the tests could not be collected"
            return True
        items = {item.nodeid: item for item in session.items}
        self._look_who_comes_where(session, items)
        if self.broken:
            return True
        waiting = list(self._make_work())
        running: dict[int, tuple[Verdict, float, Path]] = {}
        while waiting or running:
            while waiting and len(running) < self._jobs:
                verdict = waiting.pop(0)
                path = self._folder / f"{len(self.verdicts)}"
                self.verdicts.append(verdict)
                tests = self._tests_of(verdict)
                if not tests:
                    verdict.outcome = UNREACHED
                    continue
                child = os.fork()
                if not child:
                    self._judge(session, [items[name] for name in tests], verdict, path)
                running[child] = (verdict, time.monotonic(), path)
            if running:
                self._collect(running)
        return True

    def _make_work(self) -> Iterator[Verdict]:
        for name, module in self._modules.items():
            source = Path(module.__file__).read_text(encoding="utf-8")
            for mutant in find_mutants(source):
                if mutant.kind in self._kinds:
                    yield Verdict(name, mutant, SURVIVED)

    def _tests_of(self, verdict: Verdict) -> list[str]:
        # A statement over several lines counts from its first; an expression within, from its own.
        found = self._reach.get((verdict.module, verdict.mutant.line), set())
        return sorted(found, key=self._spent.__getitem__)

    def _look_who_comes_where(self, session, items) -> None:
        """Run everything once, in a child, and read what it wrote."""
        path = self._folder / "reach.json"
        child = os.fork()
        if not child:
            _be_quiet()
            files = {module.__file__: name for name, module in self._modules.items()}
            told = {}
            for name, item in items.items():
                began = time.perf_counter()
                with _Watch(files) as watch:
                    run_one(session, item)
                told[name] = [time.perf_counter() - began, sorted(watch.seen)]
                if session.testsfailed:
                    path.write_text(json.dumps({"failed": name}))
                    os._exit(1)
            path.write_text(json.dumps(told))
            os._exit(0)
        os.waitpid(child, 0)
        told = json.loads(path.read_text()) if path.exists() else {"failed": "the first run"}
        if "failed" in told:
            self.broken = f"without any mutant this failed: {told['failed']}"
            return
        for name, (seconds, lines) in told.items():
            self._spent[name] = seconds
            for module, line in lines:
                self._reach[module, line].add(name)

    def _judge(self, session, items, verdict: Verdict, path: Path) -> None:
        """In a child: put the mutant in, and run until something fails. Never returns."""
        _be_quiet()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the signal ends the process
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        try:
            put_in(self._modules[verdict.module], verdict.mutant)
        except BaseException:  # noqa: BLE001  # whatever it is, nothing may be said of this one
            os._exit(_CANNOT)
        try:
            for item in items:
                run_one(session, item)
                if session.testsfailed:
                    path.write_text(item.nodeid)
                    break
        finally:
            os._exit(1 if session.testsfailed else 0)

    @staticmethod
    def _collect(running) -> None:
        child, status = os.wait()
        verdict, _, path = running.pop(child)
        if os.waitstatus_to_exitcode(status) == _CANNOT:
            verdict.outcome = BROKEN
        elif status:
            verdict.outcome = KILLED
            verdict.test = path.read_text() if path.exists() else "it took too long"


def run_one(session: pytest.Session, item: pytest.Item) -> None:
    """Run one test, with its fixtures, as if it was the only one."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)


def put_in(module: types.ModuleType, mutant: Mutant) -> None:
    """Give the function of a mutant its code."""
    code = compile(mutant.make(), module.__file__, "exec")
    [changed] = [one for one in _codes(code) if one.co_qualname == mutant.function]
    functions = [one for one in _functions(module) if one.__qualname__ == mutant.function]
    if not functions:
        raise AssertionError(f"{module.__name__} has no {mutant.function}")
    for function in functions:
        function.__code__ = changed


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """All code of a module, but not what stands in its functions."""
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield each
            if not each.co_flags & inspect.CO_OPTIMIZED:  # a class
                yield from _codes(each)


def _functions(owner: object) -> Iterator[types.FunctionType]:
    module = getattr(owner, "__module__", None) or owner.__name__
    for found in vars(owner).values():
        value = found
        for name in ("__func__", "fget", "func", "__wrapped__"):
            value = getattr(value, name, value)
        if isinstance(value, types.FunctionType) and value.__module__ == module:
            yield value
        elif isinstance(value, type) and value.__module__ == module and value is not owner:
            yield from _functions(value)


class _Watch:
    """Which lines of some files are run, in every thread."""

    def __init__(self, files: dict[str, str]) -> None:
        self._files = files
        self.seen: set[tuple[str, int]] = set()

    def __enter__(self):
        threading.settrace(self._called)
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _called(self, frame, event, argument):
        name = self._files.get(frame.f_code.co_filename)
        if name is None:
            return None

        def line(frame, event, argument):
            self.seen.add((name, frame.f_lineno))
            return line

        return line


def _be_quiet() -> None:
    """What the tests of mutants print is nobody's business."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
