"""Settings in a file: old names become new ones, and values that mean something else are reported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from cardoon import backends, brokers
from cardoon.celery_names import OLD_NAMES
from cardoon.celery_settings import UNNEEDED, find_reason
from cardoon.clock import SystemClock
from cardoon.config import OPTIONS, check_setting, content_kind
from cardoon.contents import find_content, is_pickle
from cardoon.exceptions import ImproperlyConfigured
from cardoon.upgrading.source import Kind, Source, dotted, literal

_PREFIX = "CELERY_"
_URL = re.compile(r"([\w+.-]+)://")
_EMBEDDED = frozenset({"sqlite", "memory", "sqla+sqlite", "db+sqlite", "cache+memory"})
_APPS = frozenset({"Celery", "Cardoon"})
_CONTENTS = frozenset({"accept_content", "result_accept_content"})
_SERIALIZERS = frozenset({"task_serializer", "result_serializer"})
_ARGUMENTS = {"broker": "broker_url", "backend": "result_backend", "include": "include"}
"""Arguments of the app that are settings of another name."""


class Setting(NamedTuple):
    """A setting that a file gives a value."""

    name: str
    node: ast.AST
    value: ast.expr | None


def rewrite_settings(source: Source, *, is_settings: bool, django: bool) -> list[Setting]:
    """Change old names, and report on values; returns what is set.

    `is_settings` says whether names at the top of the file, and of classes in it, are settings; in Django
    they are in capitals and begin with `CELERY_`.
    """
    names = _Names(source, is_settings=is_settings, django=django)
    found = [*names.assigned(), *names.given()]
    names.rename_uses()
    for setting in found:
        _judge(source, setting)
    return found


def looks_like_settings(source: Source) -> bool:
    """Whether a file gives values to names that only settings have."""
    return any(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and _is_telling(node.id)
        for node in source.nodes
    )


def is_django(source: Source) -> bool:
    """Whether a file is Django's settings."""
    return any(
        isinstance(node, ast.Name)
        and node.id == "INSTALLED_APPS"
        and isinstance(node.ctx, ast.Store)
        for node in source.nodes
    )


def _is_telling(name: str) -> bool:
    return name in OLD_NAMES and name.startswith("CELERY")


class _Names:
    """The names of settings in one file."""

    def __init__(self, source: Source, *, is_settings: bool, django: bool) -> None:
        self._source = source
        self._is_settings = is_settings
        self._django = django
        self._renamed: dict[str, str] = {}

    def assigned(self) -> Iterator[Setting]:
        """`NAME = value`, at the top of a settings file or of a class in it."""
        if not self._is_settings:
            return
        for body in (self._source.tree.body, *_class_bodies(self._source)):
            for statement in body:
                for target in _targets(statement):
                    meant = self._meaning(target.id)
                    if meant is not None:
                        yield Setting(meant, target, getattr(statement, "value", None))

    def given(self) -> Iterator[Setting]:
        """`app.conf.name = value`, `conf.update(...)`, `Celery(...)` and dicts of settings."""
        for node in self._source.nodes:
            match node:
                case ast.Assign(targets=[ast.Attribute() as target], value=value):
                    if dotted(target.value).rpartition(".")[2] == "conf":
                        yield Setting(self._rename_attribute(target), target, value)
                case ast.Assign(targets=[ast.Subscript() as target], value=value):
                    if dotted(target.value).rpartition(".")[2] == "conf" and isinstance(
                        target.slice, ast.Constant
                    ):
                        yield Setting(self._rename_text(target.slice), target, value)
                case ast.Assign(targets=[ast.Name(id="CELERY" | "CARDOON")], value=value):
                    yield from self._in_dict(value)
                case ast.keyword(arg="CELERY" | "CARDOON", value=value):
                    yield from self._in_dict(value)
                case ast.Call():
                    yield from self._in_call(node)
                case _:
                    pass

    def rename_uses(self) -> None:
        """Names that were renamed, wherever else the file has them, and `conf.NAME` and `settings.NAME`."""
        for node in self._source.nodes:
            match node:
                case ast.Name(id=name) if name in self._renamed:
                    self._source.rename(node, name, self._renamed[name])
                case ast.Attribute(attr=name, ctx=ast.Load()) if name in OLD_NAMES:
                    base = dotted(node.value).rpartition(".")[2]
                    if base == "conf":
                        self._rename_attribute(node)
                    elif base == "settings" and self._django:
                        new = _in_django(name)
                        if new != name:
                            self._source.rename(node, name, new, at_end=True)
                case _:
                    pass

    def _meaning(self, name: str) -> str | None:
        """The setting that a name of a settings file stands for, if any; old ones are renamed."""
        if self._django:
            if name in OLD_NAMES:
                self._rename_later(name, _in_django(name))
                return OLD_NAMES[name]
            plain = name.removeprefix(_PREFIX).lower()
            return plain if name.startswith(_PREFIX) else None
        if name in OLD_NAMES:
            self._rename_later(name, OLD_NAMES[name])
            return OLD_NAMES[name]
        is_known = name in OPTIONS or name in UNNEEDED or find_reason(name) is not None
        return name if is_known else None

    def _rename_later(self, old: str, new: str) -> None:
        if old != new:
            self._renamed[old] = new

    def _rename_attribute(self, node: ast.Attribute) -> str:
        new = OLD_NAMES.get(node.attr, node.attr)
        if new != node.attr:
            self._source.rename(node, node.attr, new, at_end=True)
        return new

    def _rename_text(self, node: ast.Constant) -> str:
        name = str(node.value)
        new = OLD_NAMES.get(name, name)
        if new != name:
            self._source.rename_within(node, name, new)
        return new

    def _in_call(self, node: ast.Call) -> Iterator[Setting]:
        called = dotted(node.func)
        owner, _, method = called.rpartition(".")
        is_app = method in _APPS
        is_update = method == "update" and owner.rpartition(".")[2] == "conf"
        if method in {"config_from_object", "add_defaults"} or is_update:
            for argument in node.args:
                yield from self._in_dict(argument)
        if is_app or is_update:
            for keyword in node.keywords:
                if keyword.arg is None:
                    continue
                plain = _ARGUMENTS.get(keyword.arg, keyword.arg) if is_app else keyword.arg
                name = OLD_NAMES.get(plain, plain)
                if plain in OLD_NAMES:
                    self._source.rename(keyword, plain, name)
                if is_update or name in OPTIONS or find_reason(name) is not None:
                    yield Setting(name, keyword, keyword.value)

    def _in_dict(self, node: ast.expr) -> Iterator[Setting]:
        match node:
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(key.value, str):
                        yield Setting(self._rename_text(key), key, value)
            case ast.Call(func=ast.Name(id="dict"), keywords=keywords):
                for keyword in keywords:
                    if keyword.arg is not None:
                        name = OLD_NAMES.get(keyword.arg, keyword.arg)
                        if name != keyword.arg:
                            self._source.rename(keyword, keyword.arg, name)
                        yield Setting(name, keyword, keyword.value)
            case _:
                pass


def _in_django(old: str) -> str:
    return _PREFIX + OLD_NAMES[old].upper()


def _targets(statement: ast.stmt) -> list[ast.Name]:
    """The names that a statement gives a value."""
    match statement:
        case ast.Assign(targets=targets):
            return [one for one in targets if isinstance(one, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as target):
            return [target]
        case _:
            return []


def _class_bodies(source: Source) -> list[list[ast.stmt]]:
    return [node.body for node in source.tree.body if isinstance(node, ast.ClassDef)]


def _judge(source: Source, setting: Setting) -> None:
    """Report a setting that is not here, or a value that is not taken."""
    name, node, value = setting
    if name in UNNEEDED:
        source.note(node, Kind.NOTE, f"{name} changes nothing here: {UNNEEDED[name]}")
        return
    if name not in OPTIONS:
        said = _complaint(name, None)
        source.note(node, Kind.DECIDE, said or f"{name} is not a setting here")
        return
    if value is None:
        return
    for scheme in _schemes(value) if name in {"broker_url", "result_backend"} else ():
        if said := _refused_scheme(name, scheme):
            source.note(node, Kind.DECIDE, said)
    is_plain, plain = literal(value)
    if not is_plain:
        return
    if said := _complaint(name, plain):
        source.note(node, Kind.DECIDE, said)
    elif name == "task_acks_late" and plain is False:
        said = "task_acks_late=False: a task is lost with the worker that runs it, as in Celery"
        source.note(node, Kind.NOTE, said)


def _complaint(name: str, value: object) -> str | None:
    """Why a setting, or its value, is refused."""
    try:
        checked = check_setting(name, value)
        contents = checked or () if name in _CONTENTS else ()
        if name in _SERIALIZERS and checked:
            contents = (checked,)
        for content in contents:
            content_kind(content, setting=name)
            if is_pickle(find_content(content).media_type):
                return (
                    f"{name} names {content!r}: results are never pickled here, and pickled arguments "
                    "need unsafe_allow_pickle=True; use json, msgpack or yaml"
                )
    except ImproperlyConfigured as error:
        return str(error)
    return None


def _schemes(value: ast.expr) -> Iterator[str]:
    """The schemes of the URLs that a value is made of; never more of them, which may hold a password."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = _URL.match(node.value)
            if found:
                yield found[1].lower()


def _refused_scheme(name: str, scheme: str) -> str | None:
    if scheme in _EMBEDDED or (scheme == "rpc" and name == "result_backend"):
        return None
    connect = brokers.connect if name == "broker_url" else backends.connect
    try:
        connect(f"{scheme}://", clock=SystemClock())  # opens nothing
    except ImproperlyConfigured as error:
        return str(error)
    except Exception:  # noqa: BLE001  # a driver that misses the rest of the URL, and so knows the scheme
        return None
    return None
