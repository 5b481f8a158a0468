"""Settings: what is taken, what is refused and with which words, and where values come from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon import config
from cardoon.config import Conf, Settings
from cardoon.exceptions import ImproperlyConfigured


def make_conf(**environ: str) -> Conf:
    return Conf({f"CARDOON_{name.upper()}": value for name, value in environ.items()})


def test_defaults_need_no_settings():
    assert make_conf().settings() == Settings(result_serializer="auth")


def test_a_setting_is_written_as_attribute_item_or_update():
    conf = make_conf()

    conf.task_default_queue = "one"
    conf["task_always_eager"] = "yes"
    conf.update({"task_default_priority": 3}, worker_pool="solo")

    assert conf.task_default_queue == conf["task_default_queue"] == "one"
    assert conf.task_always_eager is True
    assert conf.get("task_default_priority") == 3
    assert conf.explicit["worker_pool"] == "solo"


def test_the_frozen_settings_stay_the_same_object_until_something_changes():
    conf = make_conf()
    first = conf.settings()

    assert conf.settings() is first
    conf.worker_concurrency = 2
    assert conf.settings() is not first
    assert first.worker_concurrency is None


def test_an_unknown_setting_is_refused_with_a_suggestion():
    conf = make_conf()

    with pytest.raises(ImproperlyConfigured, match="'brokr_url'; did you mean 'broker_url'"):
        conf.update(brokr_url="memory://")
    with pytest.raises(ImproperlyConfigured, match=r"see docs/configuration.md"):
        conf.update(zzzzzzzzz=1)
    with pytest.raises(ImproperlyConfigured, match="did you mean 'worker_pool'"):
        _ = conf.worker_pol


def test_if_one_setting_is_wrong_none_is_changed():
    conf = make_conf()

    with pytest.raises(ImproperlyConfigured):
        conf.update(task_default_queue="changed", worker_concurrency=0)

    assert conf.task_default_queue == "celery"


def test_an_error_names_setting_value_and_remedy():
    with pytest.raises(
        ImproperlyConfigured, match=r"^worker_pool: 'gevent' is unknown; use prefork"
    ):
        make_conf().update(worker_pool="gevent")


@pytest.mark.parametrize("name", config.SECRETS)
def test_the_value_of_a_secret_is_in_no_error(name):
    with pytest.raises(ImproperlyConfigured) as caught:
        make_conf().update({name: b"hunter2"})

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


def test_secrets_are_not_shown():
    conf = make_conf()
    conf.update(broker_url="redis://:hunter2@host", security_key_password="hunter2")

    assert "hunter2" not in repr(conf) + repr(conf.settings())
    assert "broker_url='***'" in repr(conf)
    assert repr(conf).startswith("Conf(")


def test_a_value_from_the_environment_counts_unless_one_is_set_by_hand():
    conf = make_conf(task_default_queue="from environment", worker_concurrency="7")
    conf.task_default_queue = "by hand"

    assert conf.task_default_queue == "by hand"
    assert conf.worker_concurrency == 7
    assert "worker_concurrency" not in conf.explicit


def test_a_wrong_value_in_the_environment_is_an_error():
    with pytest.raises(ImproperlyConfigured, match="worker_concurrency: 'many'"):
        make_conf(worker_concurrency="many").settings()


def test_an_empty_variable_sets_nothing():
    assert make_conf(task_default_queue="").task_default_queue == "celery"


def test_a_variable_that_is_no_setting_is_left_alone():
    assert make_conf(process="task", something_else="x").settings()


def test_private_names_are_no_settings():
    assert not hasattr(make_conf(), "_private")


def test_a_conf_is_asked_like_a_mapping():
    conf = make_conf()

    assert "broker_url" in conf
    assert "brokr_url" not in conf
    assert conf.get("brokr_url", "none") == "none"
    assert set(conf) == set(config.OPTIONS)


def test_an_app_must_accept_what_it_sends():
    conf = make_conf()
    conf.update(task_serializer="json")

    with pytest.raises(ImproperlyConfigured, match=r"task_serializer='json'.*add 'json'"):
        conf.settings()


def test_an_app_must_accept_the_results_that_it_sends():
    conf = make_conf()
    conf.update(accept_content=["auth"], result_serializer="json", result_accept_content="auth")

    with pytest.raises(
        ImproperlyConfigured, match=r"^result_serializer='json', but result_accept_content="
    ):
        conf.settings()


def test_results_are_written_like_tasks_unless_said_otherwise():
    conf = make_conf()
    conf.update(task_serializer="json", accept_content=["application/json"])

    assert conf.result_serializer == "json"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("auth", "auth"),
        ("application/data", "auth"),
        ("application/vnd.cardoon+cose", "auth"),
        ("json", "json"),
        ("application/json", "json"),
        *((name, "auth") for name in ("msgpack", "application/x-msgpack", "yaml", "pickle")),
    ],
)
def test_contents_have_names_and_media_types(name, kind):
    assert config.content_kind(name) == kind


@pytest.mark.parametrize(
    ("name", "remedy"), [("", "use auth, json, msgpack"), ("jsn", "did you mean 'json'")]
)
def test_another_content_is_refused(name, remedy):
    with pytest.raises(ImproperlyConfigured, match=remedy):
        config.content_kind(name)


def test_pickle_cannot_be_accepted_unless_that_is_allowed_by_name():
    conf = make_conf()
    conf.update(accept_content=["auth", "pickle"])

    with pytest.raises(ImproperlyConfigured, match=r"names 'pickle'.*unsafe_allow_pickle=True"):
        conf.settings()

    conf.unsafe_allow_pickle = True
    assert conf.settings().accept_content == ("auth", "pickle")


PICKLED = {"task_serializer": "pickle", "unsafe_allow_pickle": True}


def test_results_of_pickled_tasks_are_signed_json():
    conf = make_conf()
    conf.update(PICKLED, accept_content=["auth", "pickle"])

    assert conf.result_serializer == "auth"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"task_serializer": "msgpack"}, "add 'msgpack' to accept_content"),
        ({"task_serializer": "msgpak"}, "task_serializer: unknown content .* 'msgpack'"),
        ({"result_serializer": "yml"}, "result_serializer: unknown content .* 'yaml'"),
        ({"accept_content": ["auth", "jason"]}, "accept_content: unknown content .* 'json'"),
        ({"result_accept_content": ["jason"]}, "result_accept_content: unknown content"),
        ({"task_serializer": "pickle"}, "add 'pickle' to accept_content"),
        ({**PICKLED, "accept_content": ["pickle"]}, "add 'auth' to accept_content"),
        (
            {**PICKLED, "accept_content": ["auth", "pickle"], "result_serializer": "pickle"},
            "task code makes results",
        ),
        (
            {"unsafe_allow_pickle": True, "result_accept_content": ["auth", "pickle"]},
            "results are never pickled",
        ),
        (
            {"task_serializer": "msgpack", "accept_content": ["json", "msgpack"]},
            "without signature from anybody, but task_serializer='msgpack' signs; write 'auth'",
        ),
    ],
)
def test_contents_that_do_not_go_together_are_one_clear_error(given, words):
    conf = make_conf()
    conf.update(given)

    with pytest.raises(ImproperlyConfigured, match=words):
        conf.settings()


@pytest.mark.parametrize(
    "given",
    [
        {"task_serializer": "msgpack", "accept_content": ["msgpack"]},
        {"accept_content": ["auth", "msgpack", "yaml"]},
        {"task_serializer": "yaml", "accept_content": ["application/x-yaml"]},
        {"task_serializer": "json", "accept_content": ["json", "msgpack"]},
        {"task_serializer": "msgpack", "accept_content": ["auth", "json", "msgpack"]},
        {"result_serializer": "msgpack", "result_accept_content": ["msgpack"]},
    ],
)
def test_contents_that_go_together_are_taken(given):
    conf = make_conf()
    conf.update(given)

    assert conf.settings()


def test_settings_can_be_read_before_it_is_judged_whether_they_go_together():
    conf = make_conf(include="shop.tasks")
    conf.update(task_serializer="json")

    draft = conf.draft()

    assert (draft.include, draft.task_serializer) == (("shop.tasks",), "json")
    with pytest.raises(ImproperlyConfigured):
        conf.settings()


def test_the_soft_time_limit_is_below_the_hard_one():
    conf = make_conf()
    conf.update(task_soft_time_limit=10, task_time_limit=10)

    with pytest.raises(ImproperlyConfigured, match="is not below"):
        conf.settings()


def test_a_lease_too_short_to_be_renewed_is_refused():
    conf = make_conf()
    conf.update(broker_transport_options={"visibility_timeout": 0})

    with pytest.raises(ImproperlyConfigured, match="visibility_timeout=0 is below 1 second"):
        conf.settings()


@given(st.sampled_from(sorted(config.OPTIONS)), st.none() | st.integers() | st.floats() | st.text())
def test_any_value_of_any_setting_is_taken_or_refused_in_our_own_words(name, value):
    conf = Conf({})
    told = name

    try:
        conf.update({name: value})
        conf.settings()
    except ImproperlyConfigured as error:
        told = str(error)

    assert name in told


def test_what_differs_from_the_defaults_is_known():
    assert config.changed(Settings(task_default_queue="q")) == {"task_default_queue": "q"}


def test_only_the_role_task_makes_a_task_process():
    assert config.is_task_process({"CARDOON_PROCESS": "task"})
    assert not config.is_task_process({"CARDOON_PROCESS": "worker"})
    assert not config.is_task_process({})


class TestReveal:
    def test_a_plain_value_is_itself(self):
        assert config.reveal(Settings(broker_url="memory://"), "broker_url") == "memory://"

    def test_a_reference_to_a_variable_is_followed(self):
        settings = Settings(broker_url="env:SHOP")

        assert config.reveal(settings, "broker_url", {"SHOP": "memory://"}) == "memory://"

    @pytest.mark.parametrize("environ", [{}, {"SHOP": ""}])
    def test_a_variable_that_is_not_there_is_an_error(self, environ):
        with pytest.raises(ImproperlyConfigured, match=r"broker_url: .*no variable 'SHOP'"):
            config.reveal(Settings(broker_url="env:SHOP"), "broker_url", environ)

    def test_a_reference_to_a_file_is_followed(self, tmp_path):
        (tmp_path / "secret").write_text("hunter2\n")
        settings = Settings(security_key_password=f"file:{tmp_path}/secret")

        assert config.reveal(settings, "security_key_password") == "hunter2"

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa"])
    def test_a_file_that_cannot_be_read_is_an_error(self, tmp_path, content):
        if content is not None:
            (tmp_path / "secret").write_bytes(content)
        settings = Settings(broker_url=f"file:{tmp_path}/secret")

        with pytest.raises(ImproperlyConfigured, match="broker_url: cannot read"):
            config.reveal(settings, "broker_url")

    def test_a_withheld_value_stays_withheld(self):
        with pytest.raises(ImproperlyConfigured, match="withheld from processes that run tasks"):
            config.reveal(Settings(broker_url="withheld:SHOP"), "broker_url")


class TestStateDirectory:
    def test_the_nearest_one_above_is_found(self, tmp_path):
        (tmp_path / ".cardoon").mkdir()
        (tmp_path / "a" / "b").mkdir(parents=True)

        found = config.find_state_directory(Settings(), tmp_path / "a" / "b")

        assert found == tmp_path / ".cardoon"

    def test_where_there_is_none_it_is_here(self, tmp_path):
        name = ".cardoon-of-this-test"

        found = config.find_state_directory(Settings(state_directory=name), tmp_path)

        assert found == tmp_path / name

    def test_an_absolute_one_is_taken_as_it_is(self, tmp_path):
        settings = Settings(state_directory=str(tmp_path / "state"))

        assert config.find_state_directory(settings) == tmp_path / "state"


def test_a_reset_takes_back_what_was_set_by_hand():
    conf = Conf({"CARDOON_TASK_DEFAULT_PRIORITY": "3"})
    conf.update(task_default_queue="slow", task_default_priority=5)

    conf.reset({"task_ignore_result": True})

    assert dict(conf.explicit) == {"task_ignore_result": True}
    assert (conf.task_default_queue, conf.task_default_priority) == ("celery", 3)


def test_a_reset_with_a_wrong_value_changes_nothing():
    conf = Conf({})
    conf.update(task_default_queue="slow")

    with pytest.raises(ImproperlyConfigured, match="task_ignore_result"):
        conf.reset({"task_ignore_result": "maybe"})

    assert conf.task_default_queue == "slow"
