"""From type hints to converters: functions that make of a plain value what the hint says.

Enums, dataclasses and pydantic models, in Optional, Union, lists, tuples, sets and dicts, and within each
other. A hint that names none of them has no converter. Pydantic is used if the hints name its models,
and never imported here.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import logging
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, NewType, Union, get_args, get_origin

from cardoon.exceptions import SoftShutdown, SoftTimeLimitExceeded
from cardoon.message.plain import model_class

logger = logging.getLogger(__name__)

Converter = Callable[[Any], Any]
"""Raises `MisfitError`."""

_NAMED_CHOICES = 10
"""Members of an enum that an error names."""
_NONE = type(None)


class MisfitError(Exception):
    """A value that is not what a hint says: where within it, and why. Never the value itself."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def at(self, step: str) -> MisfitError:
        """The same, seen from one level above."""
        found = MisfitError(self.reason, step + self.path)
        found.__cause__ = self.__cause__
        return found

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def read_hints(owner: Any) -> dict[str, Any]:
    """The hints of a function or class, resolved; one that cannot be resolved here is left out."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:  # noqa: BLE001  # names that are imported for type checkers only, and any expression
        found = {}
        for name in _annotated_names(owner):
            one = _read_one(owner, name)
            if one is not None:
                found[name] = one
        return found


class HintReader:
    """Makes converters. `strict` and `context` are for pydantic; `strict=None` is the model's own choice."""

    def __init__(
        self, *, strict: bool | None = None, context: Mapping[str, Any] | None = None
    ) -> None:
        self._strict = strict
        self._context = context

    def read(self, hint: Any, *, within: bool = False) -> Converter | None:
        """The converter of a hint; None if every value may stay as it is.

        `within` a dataclass tuples and sets are converted for their own sake as well.
        """
        hint = _resolve_alias(hint)
        if get_origin(hint) is Annotated:
            inner = get_args(hint)[0]
            if self._is_choice_of_models(inner):
                return self._validate(sys.modules["pydantic"].TypeAdapter(hint).validate_python)
            return self.read(inner, within=within)
        origin = get_origin(hint)
        if origin is Union or origin is types.UnionType:
            return self._read_union(hint, within=within)
        if origin is not None:
            return self._read_generic(hint, origin, within=within)
        if within and (hint is tuple or hint is set or hint is frozenset):
            return _convert_each(hint, None)
        return self._read_class(hint) if isinstance(hint, type) else None

    def _read_class(self, kind: type) -> Converter | None:
        model = model_class()
        if issubclass(kind, enum.Enum):
            return functools.partial(_convert_enum, kind)
        if model is not None and issubclass(kind, model):
            return self._model(kind)
        if dataclasses.is_dataclass(kind):
            return _DataclassConverter(kind, self)
        return None

    def _read_generic(self, hint: Any, origin: Any, *, within: bool) -> Converter | None:
        inner = get_args(hint)
        if not isinstance(origin, type):
            return None
        if issubclass(origin, tuple):
            return self._read_tuple(inner, within=within)
        if issubclass(origin, Mapping):
            return self._read_mapping(inner, within=within)
        if issubclass(origin, (list, set, frozenset)) or origin in _ABSTRACT:
            convert = self.read(inner[0], within=within) if inner else None
            kind = _ABSTRACT.get(origin, origin)
            return (
                _convert_each(kind, convert) if convert or (within and kind is not list) else None
            )
        return self._read_class(origin)

    def _read_tuple(self, inner: tuple[Any, ...], *, within: bool) -> Converter | None:
        if len(inner) == 2 and inner[1] is Ellipsis:
            convert = self.read(inner[0], within=within)
            return _convert_each(tuple, convert) if convert or within else None
        converters = [self.read(one, within=within) for one in inner]
        if not within and not any(converters):
            return None
        return functools.partial(_convert_tuple, converters)

    def _read_mapping(self, inner: tuple[Any, ...], *, within: bool) -> Converter | None:
        if len(inner) != 2:
            return None
        key, value = self.read(inner[0]), self.read(inner[1], within=within)
        return functools.partial(_convert_mapping, key, value) if key or value else None

    def _read_union(self, hint: Any, *, within: bool) -> Converter | None:
        members = [one for one in get_args(hint) if one is not _NONE]
        converters = [self.read(one, within=within) for one in members]
        if not any(converters):
            return None
        convert: Converter
        if self._is_choice_of_models(hint):
            adapter = sys.modules["pydantic"].TypeAdapter(Union[tuple(members)])  # noqa: UP007
            convert = self._validate(adapter.validate_python)
        elif len(members) == 1:
            convert = typing.cast("Converter", converters[0])
        else:
            choices = list(zip(members, converters, strict=True))
            convert = functools.partial(_convert_choice, choices)
        return _unless_none(convert) if len(members) < len(get_args(hint)) else convert

    def _is_choice_of_models(self, hint: Any) -> bool:
        """Whether it is for pydantic to say which of several models a value is."""
        model = model_class()
        if model is None or get_origin(hint) not in {Union, types.UnionType}:
            return False
        members = [one for one in get_args(hint) if one is not _NONE]
        return len(members) > 1 and all(
            isinstance(one, type) and issubclass(one, model) for one in members
        )

    def _model(self, kind: Any) -> Converter:
        validate = kind.model_validate
        if self._strict is None and kind.model_config.get("strict"):
            # A strict model takes text for a date from JSON only, and it is as JSON that it was written.
            validate = functools.partial(_validate_strict, kind)
        convert = self._validate(validate)
        return lambda value: value if isinstance(value, kind) else convert(value)

    def _validate(self, validate: Callable[..., Any]) -> Converter:
        options: dict[str, Any] = {}
        if self._strict is not None:
            options["strict"] = self._strict
        if self._context is not None:
            options["context"] = self._context
        if _knows_names():
            # Models are written by the names of their fields, whatever they are called elsewhere.
            options |= {"by_alias": True, "by_name": True}
        return functools.partial(_validate_model, functools.partial(validate, **options))


_ABSTRACT: Mapping[Any, Any] = {
    **dict.fromkeys(typing.cast("tuple[Any, ...]", (Sequence, Iterable, Collection)), list),
    typing.get_origin(typing.MutableSequence): list,
    AbstractSet: set,
    typing.get_origin(typing.MutableSet): set,
}
"""What abstract collections become."""


_COMES_AS: Mapping[Any, Any] = {float: (float, int), tuple: (tuple, list), set: (set, list)}
"""What may stand for a member of a union that is not converted."""


class _DataclassConverter:
    """Makes instances of a dataclass; its own hints are read at the first, since it may name itself."""

    def __init__(self, kind: type, reader: HintReader) -> None:
        self._kind = kind
        self._reader = reader
        self._members: dict[str, Converter | None] | None = None
        self._required: frozenset[str] = frozenset()

    def __call__(self, value: Any) -> Any:
        kind = self._kind
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise MisfitError(f"{_kind_of(value)} is no {kind.__name__}")
        members = self._members or self._read()
        if unknown := [str(name) for name in value if name not in members]:
            raise MisfitError(f"{kind.__name__} has no field {unknown[0]!r}")
        if missing := sorted(self._required.difference(value)):
            raise MisfitError(f"{kind.__name__} needs a value for {', '.join(missing)}")
        given = {}
        for name, plain in value.items():
            convert = members[name]
            try:
                given[name] = plain if convert is None else convert(plain)
            except MisfitError as error:
                raise error.at(f".{name}") from error.__cause__
        return _construct(kind.__name__, kind, given)

    def _read(self) -> dict[str, Converter | None]:
        hints = read_hints(self._kind)
        fields = [one for one in dataclasses.fields(self._kind) if one.init]
        self._required = frozenset(
            one.name
            for one in fields
            if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
        )
        self._members = {
            one.name: self._reader.read(hints.get(one.name), within=True) for one in fields
        }
        return self._members


def _convert_enum(kind: type[enum.Enum], value: Any) -> Any:
    if isinstance(value, kind):
        return value
    for plain in _spellings(value):
        try:
            return kind(plain)
        except (ValueError, TypeError, KeyError):
            continue
    members = [repr(one.value) for one in kind]
    more = ", ..." if len(members) > _NAMED_CHOICES else ""
    raise MisfitError(
        f"{_kind_of(value)} is no {kind.__name__}; use one of "
        f"{', '.join(members[:_NAMED_CHOICES])}{more}"
    )


def _spellings(value: Any) -> list[Any]:
    """A value as it came, and what it may have been before: tuples come as lists, and keys as text."""
    if isinstance(value, list):
        return [value, tuple(value)]
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) < 20:
        return [value, int(value)]
    return [value]


def _convert_each(kind: Any, convert: Converter | None) -> Converter:
    def convert_each(value: Any) -> Any:
        if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Iterable):
            raise MisfitError(f"{_kind_of(value)} is no {kind.__name__}")
        return kind(_convert_members(convert, value))

    return convert_each


def _convert_members(convert: Converter | None, value: Iterable[Any]) -> Iterable[Any]:
    for at, one in enumerate(value):
        try:
            yield one if convert is None else convert(one)
        except MisfitError as error:
            raise error.at(f"[{at}]") from error.__cause__


def _convert_tuple(converters: Sequence[Converter | None], value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise MisfitError(f"{_kind_of(value)} is no tuple")
    if len(value) != len(converters):
        raise MisfitError(f"{len(value)} members instead of {len(converters)}")
    made = []
    for at, (convert, one) in enumerate(zip(converters, value, strict=True)):
        try:
            made.append(one if convert is None else convert(one))
        except MisfitError as error:
            raise error.at(f"[{at}]") from error.__cause__
    return tuple(made)


def _convert_mapping(key: Converter | None, convert: Converter | None, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise MisfitError(f"{_kind_of(value)} is no dict")
    made = {}
    for name, one in value.items():
        try:
            made[name if key is None else key(name)] = one if convert is None else convert(one)
        except MisfitError as error:
            step = f"[{name!r}]" if isinstance(name, (int, float)) else "[...]"
            raise error.at(step) from error.__cause__
    return made


def _convert_choice(choices: Sequence[tuple[Any, Converter | None]], value: Any) -> Any:
    is_open = False
    for member, convert in choices:
        if convert is not None:
            try:
                return convert(value)
            except MisfitError:
                continue
        kind = get_origin(member) or member
        try:
            if isinstance(value, _COMES_AS.get(kind, kind)):
                return value
        except TypeError:
            is_open = True  # no class to ask, such as Any: it is not for us to say what it is not
    if is_open:
        return value
    names = [getattr(member, "__name__", str(member)) for member, _ in choices]
    raise MisfitError(f"{_kind_of(value)} fits none of {', '.join(names)}")


def _unless_none(convert: Converter) -> Converter:
    return lambda value: None if value is None else convert(value)


def _validate_model(validate: Callable[[Any], Any], value: Any) -> Any:
    try:
        return validate(value)
    except (SoftTimeLimitExceeded, SoftShutdown):
        raise
    except Exception as error:  # validators are user code
        raise MisfitError(_describe(error)) from error


def _validate_strict(kind: Any, value: Any, **options: Any) -> Any:
    try:
        return kind.model_validate(value, **options)
    except ValueError:
        return kind.model_validate_json(json.dumps(value, default=str), **options)


def _describe(error: Exception) -> str:
    """What pydantic says, without the values that it says it of."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return f"{type(error).__name__}: {error}"
    told = errors(include_url=False, include_input=False, include_context=False)
    parts = []
    for one in told[:5]:
        place = ".".join(map(str, one["loc"]))
        parts.append(f"{place}: {one['msg']}" if place else one["msg"])
    return "; ".join(parts) + (f"; and {len(told) - 5} more" if len(told) > 5 else "")


def _construct(name: str, kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    try:
        return kind(**given)
    except (SoftTimeLimitExceeded, SoftShutdown):
        raise
    except Exception as error:  # `__post_init__` is user code
        raise MisfitError(f"{name}: {type(error).__name__}: {error}") from error


@functools.cache
def _knows_names() -> bool:
    """Whether pydantic can be told to take fields by their names; since 2.11 it can."""
    version = str(sys.modules["pydantic"].VERSION).split(".")
    return tuple(map(int, version[:2])) >= (2, 11)


def _kind_of(value: object) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _resolve_alias(hint: Any) -> Any:
    """What a `NewType` or a `type` statement stands for."""
    while True:
        if isinstance(hint, NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            return hint


def _annotated_names(owner: Any) -> list[str]:
    try:
        found = list(getattr(owner, "__annotations__", ()))
    except NameError:  # since Python 3.14 they are evaluated here
        found = []
    return found


def _read_one(owner: Any, name: str) -> Any:
    """One hint by itself."""

    def holder() -> None:
        """Carries it."""

    function = getattr(owner, "__func__", owner)
    holder.__annotations__ = {name: function.__annotations__[name]}
    module = sys.modules.get(str(getattr(owner, "__module__", "")))
    names = getattr(function, "__globals__", None) or vars(module or types)
    try:
        return typing.get_type_hints(holder, names, include_extras=True)[name]
    except Exception:  # noqa: BLE001  # as above
        logger.debug("the annotation of %r in %r cannot be read here", name, owner)
        return None
