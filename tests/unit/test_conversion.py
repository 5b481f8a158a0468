"""Rich types by type hint: what a task is given, what its caller gets back, and what stays plain."""

from __future__ import annotations

import asyncio
import dataclasses
import enum

import pydantic
import pytest

from cardoon import Task, chain, chord, states
from cardoon.exceptions import InvalidTaskError
from cardoon.message.serializers import decode_body
from tests.workflows.troupe import Troupe


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Item:
    name: str
    colour: Colour = Colour.RED


class Person(pydantic.BaseModel):
    name: str
    home: str = pydantic.Field(default="", alias="homeAddress")


contexts = []


class Counted(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def look(cls, value, info):
        contexts.append(info.context)
        return value


ITEM = Item("chair", Colour.BLUE)
PLAIN = {"name": "chair", "colour": "blue"}
PERSON = Person(name="Ann", homeAddress="here")


@pytest.fixture
def troupe(tmp_path):
    made = Troupe(tmp_path)
    yield made
    made.close()


@pytest.fixture
def app(troupe):
    return troupe.app


@pytest.fixture
def played(troupe):
    """The result of a call once a worker has played its part."""

    def play(result):
        troupe.play()
        return result

    return play


# Arguments


def test_arguments_travel_plain_and_arrive_as_the_annotations_say(app, played):
    seen = []

    @app.task
    def look(item: Item, colours: list[Colour], *, owner: Person | None = None) -> None:
        seen.append((item, colours, owner))

    played(look.delay(ITEM, [Colour.RED], owner=PERSON))
    played(look.delay(PLAIN, ["red"], owner={"name": "Ann", "home": "here"}))
    played(look.delay(ITEM, [], owner=None))

    assert seen == [(ITEM, [Colour.RED], PERSON)] * 2 + [(ITEM, [], None)]


def test_every_kind_of_parameter_is_converted(app):
    @app.task(bind=True)
    def look(self, one: Colour, /, two: Colour, *rest: Colour, three: Colour, **more: Colour):
        return one, two, rest, three, more

    result = look.apply(("red", "blue", "red", "blue"), {"three": "red", "four": "blue"})

    red, blue = Colour
    assert result.get() == (red, blue, (red, blue), red, {"four": blue})


def test_a_name_that_is_also_positional_only_is_one_of_the_rest(app):
    @app.task
    def look(one: Colour, /, **more: Item):
        return one, more

    assert look.apply(("red",), {"one": PLAIN}).get() == (Colour.RED, {"one": ITEM})


def test_a_task_whose_annotations_need_nothing_has_no_conversion(app):
    @app.task
    def plain(x: int, y: list[str], z: dict[str, object] | None = None) -> dict[str, int]: ...

    @app.task
    def bare(x, *args, **kwargs): ...

    assert plain.conversion is None
    assert bare.conversion is None


def test_annotations_are_read_once(app):
    @app.task
    def look(item: Item) -> None: ...

    assert look.conversion is look.conversion


def test_a_direct_call_is_left_alone(app):
    @app.task
    def look(item: Item) -> object:
        return item

    assert look(PLAIN) is PLAIN
    assert look.run(PLAIN) is PLAIN


def test_the_request_and_the_hooks_have_what_was_sent(app):
    seen = []

    class Noting(Task):
        def on_success(self, retval, task_id, args, kwargs):
            seen.append((args, kwargs))

    @app.task(bind=True, base=Noting)
    def look(self, item: Item) -> None:
        seen.append((item, self.request.args))

    look.apply((PLAIN,))

    assert seen == [(ITEM, (PLAIN,)), ((PLAIN,), {})]


def test_a_class_and_a_coroutine_are_read_as_functions_are(app):
    class Look(Task):
        name = "look"

        def run(self, item: Item) -> object:
            return item

    @app.task
    async def wait(item: Item) -> object:
        await asyncio.sleep(0)
        return item

    assert app.register_task(Look()).apply((PLAIN,)).get() == ITEM
    assert wait.apply((PLAIN,)).get() == ITEM


def test_a_class_that_overrides_call_gets_converted_arguments(app):
    class Wrapping(Task):
        def __call__(self, *args, **kwargs):
            return [self.run(*args, **kwargs)]

    @app.task(base=Wrapping)
    def look(item: Item) -> object:
        return item

    assert look.apply((PLAIN,)).get() == [ITEM]


def test_results_of_others_are_converted_as_arguments_are(app, played):
    @app.task
    def make(name: str) -> Item:
        return Item(name)

    @app.task
    def name_of(item: Item) -> str:
        return item.name

    @app.task
    def names_of(items: list[Item]) -> list[str]:
        return [item.name for item in items]

    assert played(chain(make.s("a"), name_of.s()).apply_async()).get(timeout=0) == "a"
    both = chord([make.s("a"), make.s("b")], names_of.s())
    assert played(both.apply_async()).get(timeout=0) == ["a", "b"]


def test_mapped_items_are_converted(app, played):
    @app.task
    def name_of(item: Item, times: int = 1) -> str:
        return item.name * times

    assert played(name_of.map([ITEM, PLAIN]).apply_async()).get(timeout=0) == ["chair"] * 2
    assert played(name_of.starmap([(ITEM, 2)]).apply_async()).get(timeout=0) == ["chairchair"]


def test_checks_of_types_that_are_turned_off_turn_conversion_off(app):
    @app.task(typing=False)
    def look(item: Item) -> object:
        return item

    assert look.conversion is None
    assert look.apply((PLAIN,)).get() == PLAIN


# What does not fit


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        (
            ({"name": "x", "colour": "green"},),
            {},
            r"look\(\): argument item\.colour: a value of type str",
        ),
        ((), {"item": 5}, r"look\(\): argument item: a value of type int is no Item"),
        ((PLAIN, [PLAIN, {}]), {}, r"argument more\[1\]: Item needs a value for name"),
        ((PLAIN,), {"owner": {"name": 1}}, r"argument owner: name: Input should be a valid string"),
    ],
)
def test_an_argument_that_does_not_fit_fails_the_task_with_its_name(
    app, played, args, kwargs, words
):
    ran = []

    @app.task(name="look", autoretry_for=(Exception,))
    def look(item: Item, more: list[Item] = (), *, owner: Person | None = None) -> None:
        ran.append(item)

    result = played(look.apply_async(args, kwargs))

    assert (result.state, result.retries, ran) == (states.FAILURE, 0, [])
    with pytest.raises(InvalidTaskError, match=words):
        result.get(timeout=0)


def test_a_task_that_calls_another_wrongly_is_not_taken_for_one_that_was_called_so(app):
    ran = []

    @app.task(autoretry_for=(InvalidTaskError,), max_retries=1)
    def call(item: Item) -> None:
        ran.append(item)
        raise InvalidTaskError("mine")

    assert str(call.apply((PLAIN,)).result) == "mine"
    assert ran == [ITEM, ITEM]


def test_no_message_chooses_what_is_constructed(app, played):
    seen = []

    @app.task
    def look(value: object, item: Item) -> None:
        seen.append((value, item))

    told = {"__class__": "Person", "name": "chair", "type": "tests.Item"}
    played(look.delay(told, PLAIN))

    assert seen == [(told, ITEM)]


# Results


def test_a_result_comes_back_as_the_annotation_says(app, played):
    @app.task
    def make() -> list[Item]:
        return [ITEM]

    @app.task
    def find(name: str) -> Person | None:
        return PERSON if name else None

    sent = make.delay()

    assert played(sent).get(timeout=0) == [ITEM]
    assert sent.result == [ITEM]
    assert make.AsyncResult(sent.id).get(timeout=0) == [ITEM]
    assert played(find.delay("Ann")).get(timeout=0) == PERSON
    assert played(find.delay("")).get(timeout=0) is None
    assert [one.get(timeout=0) for one in map(played, find.send_many([("Ann",), ("",)]))] == [
        PERSON,
        None,
    ]


def test_a_result_that_is_asked_for_by_name_is_plain(app, played):
    @app.task(name="make")
    def make() -> Item:
        return ITEM

    sent = played(make.delay())

    assert app.AsyncResult(sent.id).get(timeout=0) == PLAIN
    assert played(app.send_task("make")).get(timeout=0) == ITEM  # it is known here


def test_a_coroutine_waits_for_the_converted_result(app, troupe):
    @app.task
    def make() -> Item:
        return ITEM

    async def wait():
        sent = await make.adelay()
        troupe.play()
        return await sent

    assert asyncio.run(wait()) == ITEM


def test_an_eager_result_is_what_was_returned(app):
    item = Item("x")

    @app.task
    def make() -> Item:
        return item

    assert make.apply().get() is item


def test_a_result_that_does_not_fit_is_an_error_that_says_so(app, played):
    @app.task(name="make")
    def make() -> Item:
        return {"name": "x", "colour": "green"}

    with pytest.raises(InvalidTaskError, match=r"make\(\): the result\.colour: "):
        played(make.delay()).get(timeout=0)


def test_a_failure_is_not_converted(app, played):
    @app.task
    def make() -> Item:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        played(make.delay()).get(timeout=0)


# The option `pydantic`


def test_with_pydantic_the_result_is_what_the_model_was_dumped_to(app, played):
    @app.task(pydantic=True, pydantic_dump_kwargs={"by_alias": True})
    def greet(person: Person) -> Person:
        assert isinstance(person, Person)
        return person

    dumped = {"name": "Ann", "homeAddress": "here"}

    assert played(greet.delay(PERSON)).get(timeout=0) == dumped
    assert played(greet.delay(dumped)).get(timeout=0) == dumped
    assert greet.apply((PERSON,)).get() == dumped


def test_with_pydantic_a_result_of_another_class_is_left_alone(app):
    @app.task(pydantic=True)
    def greet() -> dict:
        return PERSON

    @app.task(pydantic=True)
    def perhaps() -> Person | None:
        return PERSON

    assert greet.apply().get() is PERSON
    assert perhaps.apply().get() == {"name": "Ann", "home": "here"}


def test_with_pydantic_the_sender_writes_models_as_the_task_says(app, troupe):
    @app.task(pydantic=True, pydantic_dump_kwargs={"exclude_defaults": True, "by_alias": True})
    def greet(person: Person, *, other: Person) -> None: ...

    greet.delay(Person(name="Ann"), other=PERSON)

    [job] = troupe.consume()
    args, kwargs, _ = decode_body(job.head["codec"], job.body, max_bytes=10_000)
    assert args == [{"name": "Ann"}]
    assert kwargs == {"other": {"name": "Ann", "homeAddress": "here"}}


def test_with_pydantic_models_are_validated_strictly_and_with_a_context(app):
    contexts.clear()

    @app.task(name="count", pydantic=True, pydantic_strict=True, pydantic_context={"a": 1})
    def count(counted: Counted) -> int:
        return counted.n

    assert count.apply(({"n": 5},)).get() == 5
    assert contexts == [{"a": 1, "celery_app": app, "celery_task_name": "count"}]
    with pytest.raises(InvalidTaskError, match="valid integer"):
        count.apply(({"n": "5"},)).get()


@pytest.mark.parametrize(
    "options",
    [{"pydantic_strict": True}, {"pydantic_context": {"a": 1}}, {"pydantic_dump_kwargs": {"b": 1}}],
)
def test_options_of_pydantic_need_pydantic(app, options):
    with pytest.raises(InvalidTaskError, match="needs pydantic=True"):
        app.task(**options)(lambda: None)
