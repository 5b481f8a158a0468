"""Budgets: what every module of `src/cardoon` keeps to, so that a newcomer can read it.

Each rule is a function from a module to its complaints. `test_a_rule_finds_what_it_is_for` shows each
of them a small module that breaks it, because a rule that finds nothing is obeyed by everybody.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import textwrap
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

MAX_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_PROTOCOL_METHODS = 6

RUNS_TASKS = ("cardoon.eager", "cardoon.worker.pools.")
"""Who may have user code executed: the app for `task.apply()`, and the pools."""
READS_OUTCOMES = ("cardoon.worker.jobs",)
"""Who may know how an execution ends, and starts none: it writes outcomes into frames."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One module: its full name, and its text."""

    name: str
    source: str

    @functools.cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @functools.cached_property
    def all_nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    def nodes(self, *kinds):
        return (node for node in self.all_nodes if isinstance(node, kinds))


def read_modules() -> list[Module]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path.read_text(encoding="utf-8")))
    return found


MODULES = read_modules()


def module_is_short(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines; split it by responsibility"


def functions_are_short(module: Module) -> Iterator[str]:
    for node in module.nodes(*Function.__args__):
        lines = node.end_lineno - node.lineno
        if lines >= MAX_FUNCTION_LINES:
            yield f"{node.name} has {lines} lines; split it"


def protocols_are_narrow(module: Module) -> Iterator[str]:
    for node in module.nodes(ast.ClassDef):
        if any(re.match(r"(typing\.)?Protocol\b", ast.unparse(base)) for base in node.bases):
            methods = [one for one in node.body if isinstance(one, Function)]
            if len(methods) > MAX_PROTOCOL_METHODS:
                yield f"{node.name} has {len(methods)} methods; make a second Protocol"


def everything_public_is_described(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "the module has no docstring"
    yield from undescribed(module.tree.body, "")


def undescribed(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = [ast.unparse(one) for one in node.decorator_list]
        # A test's name is its sentence, and a fixture is named for what it is.
        speaks = node.name.startswith("test_") or "pytest.fixture" in decorators
        if not ast.get_docstring(node) and not speaks and "overload" not in decorators:
            yield f"{prefix}{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from undescribed(node.body, f"{prefix}{node.name}.")


def only_the_gate_makes_verified_messages(module: Module) -> Iterator[str]:
    for node in module.nodes(ast.Call):
        named = ast.unparse(node.func).split(".")
        # Whether by its name or by `_make`.
        if "VerifiedMessage" in named[-2:] and module.name != "cardoon.security.gate":
            yield f"line {node.lineno} makes a VerifiedMessage; only the gate may"


def user_code_runs_in_one_place(module: Module) -> Iterator[str]:
    for name in imported(module):
        if not f"{name}.".startswith("cardoon.executor."):
            continue
        runs = name.startswith("cardoon.executor.execute") or name == "cardoon.executor"
        allowed = RUNS_TASKS if runs else (*RUNS_TASKS, *READS_OUTCOMES)
        if not module.name.startswith(allowed):
            yield f"imports {name}; only {', '.join(allowed)} may"


def imported(module: Module) -> Iterator[str]:
    """Full names of what a module imports, wherever in it; `from a import b` is `a.b`."""
    for node in module.nodes(ast.Import):
        yield from (alias.name for alias in node.names)
    for node in module.nodes(ast.ImportFrom):
        assert node.level == 0, f"{module.name}: a relative import, which no rule here can read"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def only_the_command_line_prints(module: Module) -> Iterator[str]:
    for node in module.nodes(ast.Call):
        if ast.unparse(node.func) == "print" and not module.name.startswith("cardoon.cli."):
            yield f"line {node.lineno} prints; log it"


def ignored_types_have_a_code(module: Module) -> Iterator[str]:
    for line, comment in comments(module):
        if re.search(r"type:\s*ignore(?!\[[a-z])", comment):
            yield f"line {line}: `type: ignore` without a code"


def comments(module: Module) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def no_except_catches_everything_unsaid(module: Module) -> Iterator[str]:
    for node in module.nodes(ast.ExceptHandler):
        if node.type is None:
            yield f"line {node.lineno}: a bare `except:`; name what is expected"


def who_swallows_everything_says_why(module: Module) -> Iterator[str]:
    """A handler that ends with `raise` swallows nothing, and needs no excuse."""
    said = {line: re.sub(r"# noqa: [A-Z0-9, ]+|#", "", text) for line, text in comments(module)}
    for node in module.nodes(ast.ExceptHandler):
        names = set(re.findall(r"\w+", ast.unparse(node.type))) if node.type else set()
        if not names & {"Exception", "BaseException"} or isinstance(node.body[-1], ast.Raise):
            continue
        head = range(node.lineno, node.body[0].lineno + (node.lineno == node.body[0].lineno))
        if not any(said.get(line, "").strip() for line in head):
            yield f"line {node.lineno}: swallows {' '.join(names)}; say why in a comment there"


LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"][0]["layers"]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in re.findall(r"\w+", names)}
"""From the highest, 0. `make check` has import-linter for the whole of it; this needs no tool."""


def imports_go_down_only(module: Module) -> Iterator[str]:
    own = layer_of(module.name)
    for name in imported(module):
        layer = layer_of(name)
        if own is not None and layer is not None and layer < own:
            yield f"imports {name}, which lies above {module.name}"


def layer_of(name: str) -> int | None:
    """None for what is no part of Cardoon's, and for the package itself."""
    package, _, rest = name.partition(".")
    return LAYER.get(rest.partition(".")[0]) if package == "cardoon" else None


RULES = [
    module_is_short,
    functions_are_short,
    protocols_are_narrow,
    everything_public_is_described,
    only_the_gate_makes_verified_messages,
    user_code_runs_in_one_place,
    only_the_command_line_prints,
    ignored_types_have_a_code,
    no_except_catches_everything_unsaid,
    who_swallows_everything_says_why,
    imports_go_down_only,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_to(rule):
    complaints = [f"{module.name}: {said}" for module in MODULES for said in rule(module)]

    assert not complaints, "\n".join(complaints)


def test_the_modules_are_found():
    assert {"cardoon", "cardoon.app", "cardoon.security.gate"} <= {one.name for one in MODULES}


def wide(methods: int) -> str:
    stubs = "\n".join(f"    def m{number}(self): ..." for number in range(methods))
    return f"class Wide(Protocol[T]):\n{stubs}\n"


def long(lines: int) -> str:
    return "async def long():\n" + "    x = 1\n" * lines


BROKEN = [
    (module_is_short, "cardoon.x", "x = 1\n" * 501, "501 lines"),
    (functions_are_short, "cardoon.x", long(60), "long has 60 lines"),
    (functions_are_short, "cardoon.x", f"class A:\n{textwrap.indent(long(60), '  ')}", "long has"),
    (protocols_are_narrow, "cardoon.x", wide(7), "Wide has 7 methods"),
    (everything_public_is_described, "cardoon.x", "x = 1", "the module has no docstring"),
    (everything_public_is_described, "cardoon.x", '"""X."""\ndef f(): ...', "f has no"),
    (everything_public_is_described, "cardoon.x", '"""X."""\nclass A: ...', "A has no"),
    (
        everything_public_is_described,
        "cardoon.x",
        '"""X."""\nclass A:\n    """A."""\n    async def f(self): ...',
        "A.f has no",
    ),
    (only_the_gate_makes_verified_messages, "cardoon.app", "VerifiedMessage(body=b'')", "line 1"),
    (only_the_gate_makes_verified_messages, "cardoon.app", "gate.VerifiedMessage()", "line 1"),
    (only_the_gate_makes_verified_messages, "cardoon.app", "VerifiedMessage._make([])", "line 1"),
    (user_code_runs_in_one_place, "cardoon.app", "from cardoon.executor import execute", "imports"),
    (user_code_runs_in_one_place, "cardoon.app", "from cardoon import executor", "imports"),
    (user_code_runs_in_one_place, "cardoon.app", "def f():\n  import cardoon.executor", "imports"),
    (
        user_code_runs_in_one_place,
        "cardoon.worker.jobs",
        "from cardoon.executor import execute_async",
        "imports cardoon.executor.execute_async",
    ),
    (user_code_runs_in_one_place, "cardoon.app", "from cardoon.executor import Failed", "imports"),
    (only_the_command_line_prints, "cardoon.worker.pool", "if 1:\n    print(1)", "line 2 prints"),
    (ignored_types_have_a_code, "cardoon.x", "x = 1  # type: ignore", "line 1"),
    (ignored_types_have_a_code, "cardoon.x", "x = 1  # type:ignore  # why", "line 1"),
    (no_except_catches_everything_unsaid, "cardoon.x", "try: f()\nexcept: pass", "line 2"),
    (
        who_swallows_everything_says_why,
        "cardoon.x",
        "try: f()\nexcept Exception: pass",
        "line 2: swallows Exception",
    ),
    (
        who_swallows_everything_says_why,
        "cardoon.x",
        "try: f()\nexcept (OSError, BaseException) as e:  # noqa: BLE001\n  pass",
        "line 2",
    ),
    (imports_go_down_only, "cardoon.message.cbor", "from cardoon.app import Cardoon", "lies above"),
    (imports_go_down_only, "cardoon.sender", "def f():\n    import cardoon.cli.main", "lies above"),
    (imports_go_down_only, "cardoon.security.gate", "from cardoon import broker", "lies above"),
]
FINE = [
    (module_is_short, "cardoon.x", "x = 1\n" * 500),
    (functions_are_short, "cardoon.x", long(59)),
    (protocols_are_narrow, "cardoon.x", wide(6)),
    (protocols_are_narrow, "cardoon.x", wide(7).replace("Protocol[T]", "Base")),
    (
        everything_public_is_described,
        "cardoon.x",
        '"""X."""\ndef _f(): ...\nclass _A:\n    def f(self): ...\ndef test_it(): ...',
    ),
    (
        everything_public_is_described,
        "cardoon.x",
        '"""X."""\n@overload\ndef f(): ...\n@pytest.fixture\ndef g(): ...',
    ),
    (only_the_gate_makes_verified_messages, "cardoon.security.gate", "VerifiedMessage()"),
    (user_code_runs_in_one_place, "cardoon.eager", "from cardoon.executor import execute"),
    (user_code_runs_in_one_place, "cardoon.worker.jobs", "from cardoon.executor import Failed"),
    (only_the_command_line_prints, "cardoon.cli.main", "print(1)"),
    (only_the_command_line_prints, "cardoon.x", "text = 'print(1)'"),
    (ignored_types_have_a_code, "cardoon.x", "x = 1  # type: ignore[misc]  # why"),
    (ignored_types_have_a_code, "cardoon.x", "x = '# type: ignore'"),
    (
        who_swallows_everything_says_why,
        "cardoon.x",
        "try: f()\nexcept Exception:  # noqa: BLE001  # user code may raise anything\n  pass",
    ),
    (who_swallows_everything_says_why, "cardoon.x", "try: f()\nexcept OSError: pass"),
    (
        who_swallows_everything_says_why,
        "cardoon.x",
        "try: f()\nexcept BaseException:\n  g()\n  raise",
    ),
    (imports_go_down_only, "cardoon.app", "import os\nfrom cardoon.message import cbor"),
    (imports_go_down_only, "cardoon.security.gate", "from cardoon.security import trust"),
]


@pytest.mark.parametrize(("rule", "name", "source", "complaint"), BROKEN)
def test_a_rule_finds_what_it_is_for(rule, name, source, complaint):
    [said] = rule(Module(name, source))

    assert complaint in said


@pytest.mark.parametrize(("rule", "name", "source"), FINE)
def test_a_rule_lets_pass_what_it_is_not_for(rule, name, source):
    assert list(rule(Module(name, source))) == []


def test_every_rule_was_seen_to_fail():
    assert {rule for rule, *_ in BROKEN} == set(RULES)
