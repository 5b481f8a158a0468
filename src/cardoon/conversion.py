"""Arguments and results as the annotations of a task say: enums, dataclasses and pydantic models.

They travel as plain values (`message.plain`). What they become again is chosen by the task's own
annotations, read once, and never by a message: no name that arrives selects what is constructed.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cardoon.exceptions import InvalidTaskError
from cardoon.hints import Converter, HintReader, MisfitError, read_hints
from cardoon.message.plain import model_class

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class ArgumentMisfitError(InvalidTaskError):
    """An argument that is not what its annotation says."""


class PydanticOptions(NamedTuple):
    """What a task with `pydantic=True` asks for, as in Celery."""

    strict: bool = False
    context: Mapping[str, Any] | None = None
    dump: Mapping[str, Any] | None = None

    @property
    def dump_options(self) -> dict[str, Any]:
        """For `model_dump`."""
        return {"mode": "json", **(self.dump or {})}


class Conversion:
    """What turns plain arguments into those that a function's annotations name, and its result."""

    __slots__ = (
        "_by_name",
        "_options",
        "_others",
        "_positional",
        "_rest",
        "_returns",
        "_task",
        "result",
    )

    def __init__(
        self,
        task: str,
        signature: inspect.Signature,
        hints: Mapping[str, Any],
        options: PydanticOptions | None,
    ) -> None:
        reader = HintReader(
            strict=options.strict if options else None, context=options.context if options else None
        )
        self._task = task
        self._options = options
        self._positional: list[tuple[int, str, Converter]] = []
        self._by_name: dict[str, Converter] = {}
        self._rest: tuple[int, str, Converter] | None = None
        self._others: tuple[str, frozenset[str], Converter] | None = None
        self._returns = hints.get("return")
        found = None if options else reader.read(self._returns)
        self.result: Callable[[Any], Any] | None = None
        """Turns a plain result into what the function returned; None if there is nothing to do.

        With `pydantic=True` it stays plain, as in Celery. Raises `InvalidTaskError`.
        """
        if found is not None:
            self.result = _result_converter(task, found)
        self._read_parameters(signature, hints, reader)

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to convert."""
        parameters = self._positional or self._by_name or self._rest or self._others
        return bool(parameters or self.result or self._options)

    def convert(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The arguments as the function wants them; `ArgumentMisfitError` names one that does not fit."""
        if self._positional or self._rest:
            args = list(args)
            for at, name, converter in self._positional:
                if at < len(args):
                    args[at] = self._convert(name, converter, args[at])
            if self._rest is not None:
                start, name, converter = self._rest
                for at in range(start, len(args)):
                    args[at] = self._convert(f"{name}[{at - start}]", converter, args[at])
        if kwargs and (self._by_name or self._others):
            kwargs = {name: self._convert_named(name, value) for name, value in kwargs.items()}
        return args, kwargs

    def dump_arguments(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Models among the arguments as `pydantic_dump_kwargs` wants them, for the way."""
        return [self._dump(one) for one in args], {k: self._dump(v) for k, v in kwargs.items()}

    def dump_result(self, value: Any) -> Any:
        """With `pydantic=True`, a model of the annotated class as plain values; else the value."""
        wanted = [self._returns, *typing.get_args(self._returns)]
        kinds = tuple(one for one in wanted if isinstance(one, type))
        return self._dump(value) if isinstance(value, kinds) else value

    def _dump(self, value: Any) -> Any:
        model = model_class()
        if self._options is None or model is None or not isinstance(value, model):
            return value
        return value.model_dump(**self._options.dump_options)

    def _read_parameters(
        self, signature: inspect.Signature, hints: Mapping[str, Any], reader: HintReader
    ) -> None:
        named = []
        for at, parameter in enumerate(signature.parameters.values()):
            converter = reader.read(hints.get(parameter.name))
            if parameter.kind not in (*_VARIADIC, parameter.POSITIONAL_ONLY):
                named.append(parameter.name)
            if converter is None:
                continue
            match parameter.kind:
                case parameter.VAR_POSITIONAL:
                    self._rest = (at, parameter.name, converter)
                case parameter.VAR_KEYWORD:
                    self._others = (parameter.name, frozenset(named), converter)
                case parameter.KEYWORD_ONLY:
                    self._by_name[parameter.name] = converter
                case _:
                    self._positional.append((at, parameter.name, converter))
                    if parameter.kind is not parameter.POSITIONAL_ONLY:
                        self._by_name[parameter.name] = converter

    def _convert_named(self, name: str, value: Any) -> Any:
        converter = self._by_name.get(name)
        if converter is None and self._others is not None and name not in self._others[1]:
            converter = self._others[2]
        return value if converter is None else self._convert(name, converter, value)

    def _convert(self, name: str, converter: Converter, value: Any) -> Any:
        try:
            return converter(value)
        except MisfitError as error:
            raise ArgumentMisfitError(
                f"{self._task}(): argument {name}{error}"
            ) from error.__cause__


class Convertible(Protocol):
    """A task, as far as its annotations and what is to be made of them go."""

    name: str
    typing: bool
    pydantic: bool
    pydantic_strict: bool
    pydantic_context: Mapping[str, Any] | None
    pydantic_dump_kwargs: Mapping[str, Any] | None

    @property
    def app(self) -> Any:
        """The app that it belongs to."""
        ...

    @property
    def run(self) -> Callable[..., Any]:
        """The body."""
        ...


def conversion_of(task: Convertible) -> Conversion | None:
    """What a task's annotations ask for; None if that is nothing, or not wanted (`typing=False`)."""
    if not task.typing and not task.pydantic:
        return None
    if not task.pydantic:
        return read_conversion(task.name, task.run)
    own = {"celery_app": task.app, "celery_task_name": task.name}
    context = {**(task.pydantic_context or {}), **own}
    options = PydanticOptions(task.pydantic_strict, context, task.pydantic_dump_kwargs)
    return read_conversion(task.name, task.run, options)


def read_conversion(
    task: str, function: Callable[..., Any], options: PydanticOptions | None = None
) -> Conversion | None:
    """What a function's annotations ask for; None if that is nothing."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    hints = read_hints(function)
    if not hints and options is None:
        return None
    made = Conversion(task, signature, hints, options)
    return made if made.is_needed else None


def _result_converter(task: str, converter: Converter) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        try:
            return converter(value)
        except MisfitError as error:
            raise InvalidTaskError(f"{task}(): the result{error}") from error.__cause__

    return convert
