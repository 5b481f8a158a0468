"""From type hints to converters: what becomes what, and what does not fit."""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import datetime as dt
import enum
import functools
import typing
from typing import Annotated, Any, Literal, NewType, Optional, TypeVar, Union

import pydantic
import pytest

from cardoon.exceptions import SoftTimeLimitExceeded
from cardoon.hints import HintReader, MisfitError, read_hints

if typing.TYPE_CHECKING:
    from nowhere import Missing


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1


class Corner(enum.Enum):
    ORIGIN = (0, 0)


@dataclasses.dataclass
class Item:
    name: str
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Order:
    items: list[Item]
    placed: dt.date
    corner: tuple[int, int] = (0, 0)
    labels: frozenset[str] = frozenset()
    parent: Optional[Order] = None  # noqa: UP045 - an older way to say it
    total: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Strict:
    amount: int

    def __post_init__(self):
        if self.amount < 0:
            raise ValueError("must not be negative")


class Person(pydantic.BaseModel):
    name: str
    born: dt.date | None = None
    home: str = pydantic.Field(default="", alias="homeAddress")


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    tricks: list[str] = []


class Exact(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)

    at: dt.datetime


Pet = Annotated[Union[Cat, Dog], pydantic.Field(discriminator="kind")]  # noqa: UP007
T = TypeVar("T")
# As it was said before Python 3.10.
OPTIONAL_NAMES = Optional[list[str]]  # noqa: UP045
OPTIONAL_COLOUR = Optional[Colour]  # noqa: UP045
Red = NewType("Red", Colour)


def read(hint):
    return HintReader().read(hint)


@pytest.mark.parametrize(
    "hint",
    [
        *(int, str, bytes, dict, list, tuple, set, object, Any, None, type(None), type, T),
        *(dt.date, list[int], dict[str, Any], tuple[int, ...], set[str], frozenset[int]),
        *(int | None, str | int, OPTIONAL_NAMES, Literal["a"], "Colour", type[Colour]),
        *(
            abc.Callable[[Colour], int],
            abc.Iterator[Colour],
            typing.ClassVar[int],
            list,
            NewType("N", int),
        ),
        Annotated[int, "x"],
    ],
    ids=str,
)
def test_a_hint_that_names_no_such_type_asks_for_nothing(hint):
    assert read(hint) is None


RED, SMALL = Colour.RED, Size.SMALL


@pytest.mark.parametrize(
    ("hint", "plain", "value"),
    [
        (Colour, "red", RED),
        (Colour, RED, RED),
        (Size, 1, SMALL),
        (Size, "1", SMALL),
        (Corner, [0, 0], Corner.ORIGIN),
        (Red, "red", RED),
        (Colour | None, None, None),
        (OPTIONAL_COLOUR, "red", RED),
        (Annotated[Colour, "said"], "red", RED),
        (list[Colour], ["red", "blue"], [RED, Colour.BLUE]),
        (abc.Sequence[Colour], ("red",), [RED]),
        (abc.Iterable[Colour], ["red"], [RED]),
        (set[Colour], ["red"], {RED}),
        (frozenset[Colour], {"red"}, frozenset({RED})),
        (tuple[Colour, ...], ["red"], (RED,)),
        (tuple[int, Colour], [5, "red"], (5, RED)),
        (dict[str, Colour], {"a": "red"}, {"a": RED}),
        (abc.Mapping[Colour, int], {"red": 5}, {RED: 5}),
        (dict[Size, Any], {"1": 5}, {SMALL: 5}),
        (list[list[Colour] | None], [["red"], None], [[RED], None]),
        (Colour | str, "red", RED),
        (Colour | str, "other", "other"),
        (str | Colour, "red", "red"),
        (float | Colour, 5, 5),
        (Colour | Any, object, object),
        (Item, {"name": "a"}, Item("a")),
        (Item, {"name": "a", "colour": "blue"}, Item("a", Colour.BLUE)),
        (Item, Item("a"), Item("a")),
        (list[Item] | Item, {"name": "a"}, Item("a")),
        (
            Order,
            {
                "items": [{"name": "a"}],
                "placed": dt.date(2026, 1, 1),
                "corner": [1, 2],
                "labels": ["x"],
                "parent": {"items": [], "placed": dt.date(2025, 1, 1)},
            },
            Order(
                [Item("a")],
                dt.date(2026, 1, 1),
                (1, 2),
                frozenset({"x"}),
                Order([], dt.date(2025, 1, 1)),
            ),
        ),
        (Person, {"name": "a", "born": "2026-01-01"}, Person(name="a", born=dt.date(2026, 1, 1))),
        (Person, {"name": "a", "home": "b"}, Person(name="a", homeAddress="b")),
        (Person, {"name": "a", "homeAddress": "b"}, Person(name="a", homeAddress="b")),
        (list[Person], [{"name": "a"}], [Person(name="a")]),
        (Person | None, None, None),
        (Cat | Dog, {"kind": "dog"}, Dog(kind="dog")),
        (Cat | Dog | None, None, None),
        (Pet, {"kind": "cat"}, Cat(kind="cat")),
        (list[Pet], [{"kind": "dog"}], [Dog(kind="dog")]),
        (Person | Item, {"name": "a", "colour": "red"}, Person(name="a")),
        (Exact, {"at": "2026-01-01T00:00:00"}, Exact(at=dt.datetime(2026, 1, 1))),  # noqa: DTZ001
        (Exact, {"at": dt.datetime(2026, 1, 1)}, Exact(at=dt.datetime(2026, 1, 1))),  # noqa: DTZ001
    ],
)
def test_a_plain_value_becomes_what_the_hint_says(hint, plain, value):
    found = read(hint)(plain)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "plain", "words"),
    [
        (Colour, "green", ": a value of type str is no Colour; use one of 'red', 'blue'"),
        (Colour, None, ": None is no Colour"),
        (Size, "many", "type str is no Size; use one of 1"),
        (list[Colour], "red", "type str is no list"),
        (list[Colour], 5, "type int is no list"),
        (list[Colour], ["red", 5], r"^\[1\]: a value of type int is no Colour"),
        (tuple[int, Colour], [5], "1 members instead of 2"),
        (tuple[int, Colour], [5, 6], r"^\[1\]: "),
        (tuple[int, Colour], 5, "no tuple"),
        (dict[str, Colour], ["a"], "type list is no dict"),
        (dict[str, Colour], {"secret": 5}, r"^\[\.\.\.\]: "),
        (Item, ["a"], "type list is no Item"),
        (Item, {}, "Item needs a value for name"),
        (Item, {"name": "a", "color": 1}, "Item has no field 'color'"),
        (Item, {"name": "a", "colour": "x"}, r"^\.colour: "),
        (Order, {"items": [{}], "placed": 1}, r"^\.items\[0\]: Item needs a value for name"),
        (Order, {"items": [], "placed": 1, "total": 5}, "no field 'total'"),
        (Strict, {"amount": -1}, "Strict: ValueError: must not be negative"),
        (Person, {"name": 5}, ": name: Input should be a valid string"),
        (Person, "x", "valid dictionary"),
        (Cat | Dog, {"kind": "cow"}, "cat"),
        (Person | Item, {}, "type dict fits none of Person, Item"),
        (str | Item, {}, "type dict fits none of str, Item"),
    ],
)
def test_a_value_that_does_not_fit_says_where_and_why(hint, plain, words):
    with pytest.raises(MisfitError, match=words):
        read(hint)(plain)


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (Colour, "hunter2"),
        (list[Colour], ["hunter2"]),
        (dict[str, Colour], {"hunter2": 5}),
        (Item, {"name": "a", "colour": "hunter2"}),
        (Person, {"name": ["hunter2"]}),
        (Person | Item, "hunter2"),
    ],
)
def test_no_error_tells_the_value(hint, plain):
    with pytest.raises(MisfitError) as caught:
        read(hint)(plain)

    assert "hunter2" not in str(caught.value)


def test_many_members_of_an_enum_are_not_all_named():
    many = enum.Enum("many", [f"M{number}" for number in range(50)])

    with pytest.raises(MisfitError, match=r"use one of 1, 2, .* 10, \.\.\.$"):
        read(many)("x")


def test_an_interruption_of_user_code_is_no_misfit():
    class Slow(pydantic.BaseModel):
        x: int

        @pydantic.model_validator(mode="before")
        @classmethod
        def wait(cls, _):
            raise SoftTimeLimitExceeded

    @dataclasses.dataclass
    class Slower:
        def __post_init__(self):
            raise SoftTimeLimitExceeded

    for kind in (Slow, Slower):
        with pytest.raises(SoftTimeLimitExceeded):
            read(kind)({})


def test_pydantic_is_asked_strictly_and_with_a_context():
    seen = []

    class Asked(pydantic.BaseModel):
        x: int

        @pydantic.field_validator("x")
        @classmethod
        def look(cls, value, info):
            seen.append(info.context)
            return value

    strict = HintReader(strict=True, context={"a": 1}).read(Asked)

    assert strict({"x": 5}) == Asked(x=5)
    assert seen[0] == {"a": 1}
    with pytest.raises(MisfitError, match="valid integer"):
        strict({"x": "5"})


def test_hints_that_cannot_be_resolved_are_left_out():
    def function(one: Colour, two: Missing, three: Missing | None = None) -> Item: ...

    assert read_hints(function) == {"one": Colour, "return": Item}


def test_hints_of_methods_and_of_what_wraps_them_are_read():
    class Holder:
        def method(self, one: Colour) -> None: ...

    def wrapper(*args): ...

    assert read_hints(Holder().method)["one"] is Colour
    assert read_hints(functools.update_wrapper(wrapper, Holder.method))["one"] is Colour


def test_what_has_no_hints_has_none():
    assert read_hints(len) == {}
    assert read_hints(functools.partial(int)) == {}
