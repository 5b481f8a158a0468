"""The imports of a file: what is Celery's or kombu's becomes Cardoon's."""

from __future__ import annotations

import ast
import importlib
import re

from cardoon.celery_modules import MODULES, Place, find_place, is_mapped, why_absent
from cardoon.upgrading.source import Kind, Source, dotted

_MODULE_NAME = re.compile(r"(celery|kombu)(\.\w+)+(:\w+)?")


def rewrite_imports(source: Source) -> None:
    """Change them and what is written with their names; report what has no counterpart."""
    roots: dict[str, list[tuple[ast.Import, ast.alias]]] = {}
    for node in source.nodes:
        match node:
            case ast.ImportFrom(module=str(module), level=0) if is_mapped(module):
                _rewrite_from(source, node, module)
            case ast.Import():
                for alias in node.names:
                    if not is_mapped(alias.name):
                        continue
                    if alias.asname is not None:
                        _rewrite_module(source, alias)
                    else:
                        roots.setdefault(alias.name.partition(".")[0], []).append((node, alias))
            case ast.Constant(value=str(text)):
                _report_text(source, node, text)
            case _:
                pass
    for root, imports in roots.items():
        _rewrite_root(source, root, imports)


def is_here(place: Place) -> bool:
    """Whether this version has a name."""
    try:
        home = importlib.import_module(place.module)  # one of ours; never of the project's
        return hasattr(home, place.name) or _is_module(f"{place.module}.{place.name}")
    except ImportError:
        return False


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _rewrite_from(source: Source, node: ast.ImportFrom, module: str) -> None:
    """`from celery.x import a, b`: the module's name, where there is one for all of them."""
    places: dict[str, Place] = {}
    for alias in node.names:
        if alias.name == "*" and module in MODULES and _is_module(MODULES[module]):
            places["*"] = Place(MODULES[module], "*")
            continue
        place = find_place(module, alias.name)
        if place is not None and is_here(place):
            places[alias.name] = place
        else:
            why = why_absent(module, alias.name)
            source.note(alias, Kind.DECIDE, f"{module}.{alias.name}: {why}")
    homes = {place.module for place in places.values()}
    if len(homes) > 1:
        told = ", ".join(f"{name} from {place.module}" for name, place in places.items())
        source.note(node, Kind.DECIDE, f"import {told}")
        return
    for home in homes:
        source.rename_within(node, module, home)
    for alias in node.names:
        place = places.get(alias.name)
        if place is not None and place.name != alias.name:
            new = place.name if alias.asname else f"{place.name} as {alias.name}"
            source.rename(alias, alias.name, new)


def _rewrite_module(source: Source, alias: ast.alias, targets: tuple[str, ...] = ()) -> None:
    """`import celery.x`, as one or several modules of ours."""
    target = ", ".join(targets) or MODULES.get(alias.name)
    if target is None or not all(_is_module(one) for one in target.split(", ")):
        package, _, name = alias.name.rpartition(".")
        source.note(alias, Kind.DECIDE, f"{alias.name}: {why_absent(package, name)}")
        return
    source.rename(alias, alias.name, target)


def _rewrite_root(source: Source, root: str, imports: list[tuple[ast.Import, ast.alias]]) -> None:
    """`import celery` and `import celery.x`, which both mean the name `celery`, and its uses."""
    if _is_rebound(source, root):
        for _, alias in imports:
            if alias.name == root and _is_module(MODULES[root]):
                source.rename(alias, root, f"{MODULES[root]} as {root}")
            else:
                said = f"{root} is also a name of this file's own; change {alias.name} by hand"
                source.note(alias, Kind.DECIDE, said)
        return
    used: set[str] = set()
    inner: set[ast.AST] = set()
    for node in source.nodes:
        if node in inner or not isinstance(node, (ast.Attribute, ast.Name)):
            continue
        name = dotted(node)
        if name.partition(".")[0] != root:
            continue
        inner.update(ast.walk(node))
        used |= _rewrite_use(source, node, name)
    for number, (_, alias) in enumerate(imports):
        own = {MODULES[alias.name]} if alias.name in MODULES else set()
        more = used if own and number == 0 else set()
        wanted = sorted(own | more)
        # To import a module is to import the packages that it is in.
        outer = {one for one in wanted if any(other.startswith(f"{one}.") for other in wanted)}
        _rewrite_module(source, alias, tuple(one for one in wanted if one not in outer))


def _rewrite_use(source: Source, node: ast.expr, name: str) -> set[str]:
    """`celery.x.Name` in the code; returns the module of ours that it needs."""
    module = name
    while module not in MODULES:
        module = module.rpartition(".")[0]
    rest = name[len(module) + 1 :].partition(".")[0]
    place = find_place(module, rest) if rest else Place(MODULES[module], "")
    if place is None or (rest and not is_here(place)):
        source.note(node, Kind.DECIDE, f"{module}.{rest}: {why_absent(module, rest)}")
        return set()
    if rest and place.name != rest:
        source.rename(node, f"{module}.{rest}", f"{place.module}.{place.name}")
    else:
        source.rename(node, module, place.module)
    return {place.module}


def _is_rebound(source: Source, name: str) -> bool:
    """Whether a file also gives the name another meaning."""
    for node in source.nodes:
        match node:
            case ast.Name(id=found, ctx=ast.Store()) | ast.arg(arg=found) if found == name:
                return True
            case ast.FunctionDef(name=found) | ast.ClassDef(name=found) if found == name:
                return True
            case ast.ImportFrom(names=aliases) | ast.Import(names=aliases):
                if any((alias.asname or alias.name) == name for alias in aliases) and isinstance(
                    node, ast.ImportFrom
                ):
                    return True
            case _:
                pass
    return False


def _report_text(source: Source, node: ast.Constant, text: str) -> None:
    """A text that names a module, such as a class to load or to patch."""
    if not _MODULE_NAME.fullmatch(text):
        return
    module = text.partition(":")[0]
    while module not in MODULES:
        module = module.rpartition(".")[0]
    if "." in module:
        source.note(
            node, Kind.DECIDE, f"the text {text!r} names {module}, which is {MODULES[module]} here"
        )
