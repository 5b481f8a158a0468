"""Mutants: a module with one check taken out, turned round, or moved by one.

    raise ...            taken out
    check(...)           taken out, where nothing is done with what it returns
    if a:                if True, if False; also of `a if b else c`, of guards and of comprehensions
    a < b                a <= b, and so on; a == b: a != b
    a and b              a or b
    not a                a

Only what stands in functions is changed, because a mutant is put into a module that was imported.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

_BOUNDS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_WORDS = {ast.And: ast.Or, ast.Or: ast.And}
_Change: TypeAlias = Callable[[ast.Module, ast.AST], str]
_NOT_CHECKS = ("append", "put", "clear", "update", "add", "pop", "extend", "setdefault")
"""Methods that keep something; to leave them out takes no check away."""


class Mutant(NamedTuple):
    """One change."""

    kind: str
    """`raise`, `call`, `if`, `compare`, `word` or `not`."""
    line: int
    function: str
    """The qualified name of the function that it is in."""
    change: str
    """What stood there, and what stands there now."""
    make: Callable[[], ast.Module]
    """The whole module with the change."""

    @property
    def name(self) -> str:
        """What it is known by, wherever its line moves."""
        return f"{self.function}: {self.change}"


def find_mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in order."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    owners = _find_owners(tree)
    found = []
    for number, node in enumerate(nodes):
        if node not in owners:
            continue
        for kind, make in _changes(node):
            build = functools.partial(_build, source, number, make)
            _, after = build()
            change = f"{_text(node)} -> {after}"
            found.append(
                Mutant(kind, node.lineno, owners[node], change, lambda build=build: build()[0])
            )
    return sorted(found, key=lambda one: (one.line, one.change))


def _build(source: str, number: int, make: _Change) -> tuple[ast.Module, str]:
    """The module with one node changed, and what stands there now."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[number]
    after = make(tree, node)
    return ast.fix_missing_locations(tree), after


def _find_owners(tree: ast.Module) -> dict[ast.AST, str]:
    """The function around each node that stands in the body of one."""
    owners: dict[ast.AST, str] = {}

    def visit(node: ast.AST, path: tuple[str, ...], owner: str | None) -> None:
        for child in ast.iter_child_nodes(node):
            inner, inside = path, owner
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*path, child.name)
                if owner is None and not isinstance(child, ast.ClassDef):
                    inside = ".".join(inner)
                    for statement in child.body:
                        owners[statement] = inside
                        visit(statement, inner, inside)
                    continue
            elif owner is not None:
                owners[child] = owner
            visit(child, inner, inside)

    visit(tree, (), None)
    return owners


def _changes(node: ast.AST) -> Iterator[tuple[str, _Change]]:
    match node:
        case ast.Raise(exc=None):
            pass
        case ast.Raise():
            yield "raise", _leave_out
        case ast.Expr(value=ast.Call(func=func)) if _is_check(func):
            yield "call", _leave_out
        case ast.If() | ast.IfExp() | ast.While():
            if not isinstance(node.test, ast.Constant):
                yield "if", _always(True)
                yield "if", _always(False)
        case ast.match_case(guard=ast.expr()):
            pass  # its parts are changed
        case ast.comprehension():
            pass
        case ast.Compare():
            for place in range(len(node.ops)):
                yield "compare", _other_operator(place)
        case ast.BoolOp():
            yield "word", _other_word
        case ast.UnaryOp(op=ast.Not()):
            yield "not", _without_not


def _is_check(func: ast.expr) -> bool:
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    return name not in _NOT_CHECKS and name != "assert_never"


def _leave_out(tree: ast.Module, node: ast.AST) -> str:
    for parent in ast.walk(tree):
        for _, value in ast.iter_fields(parent):
            if isinstance(value, list) and node in value:
                # Code that says `super()` knows its class, and the other code must as well.
                knows = any(getattr(one, "id", "") == "super" for one in ast.walk(node))
                name = ast.Name("__class__", ast.Load())
                value[value.index(node)] = ast.Expr(name) if knows else ast.Pass()
                return "pass"
    raise AssertionError("a statement that stands nowhere")


def _always(answer: bool):
    def change(_: ast.Module, node: ast.AST) -> str:
        node.test = ast.Constant(answer)
        return str(answer)

    return change


def _other_operator(place: int):
    def change(_: ast.Module, node: ast.AST) -> str:
        node.ops[place] = _BOUNDS[type(node.ops[place])]()
        return _text(node)

    return change


def _other_word(_: ast.Module, node: ast.AST) -> str:
    node.op = _WORDS[type(node.op)]()
    return _text(node)


def _without_not(tree: ast.Module, node: ast.AST) -> str:
    inner = node.operand
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, name, inner)
            elif isinstance(value, list) and node in value:
                value[value.index(node)] = inner
    return _text(inner)


def _text(node: ast.AST) -> str:
    shown = node.test if isinstance(node, ast.If | ast.IfExp | ast.While) else node
    return " ".join(ast.unparse(shown).split())[:160]
