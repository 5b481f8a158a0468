"""`cardoon db`."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cardoon.cli.main import cardoon
from cardoon.exceptions import ImproperlyConfigured
from cardoon.postgres.schema_version import VERSION
from tests.servers.postgres import postgres

__all__ = ["postgres"]


@pytest.fixture
def run(postgres, monkeypatch, tmp_path):
    postgres.ask("DROP SCHEMA IF EXISTS shop CASCADE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_BROKER", f"{postgres.url}?schema=shop")

    def run(*arguments, code=0, broker="env:SHOP_BROKER"):
        answer = CliRunner().invoke(cardoon, ["-b", broker, "db", *arguments])
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        assert answer.exit_code == code, answer.output
        return answer.output

    yield run
    postgres.ask("DROP SCHEMA IF EXISTS shop CASCADE")


def test_tables_are_made_and_looked_at(run):
    assert "has no tables" in run("status", code=1)
    assert f"schema shop has version {VERSION}" in run("upgrade")
    assert f"schema shop has version {VERSION}" in run("status")


def test_the_statements_can_be_printed_for_somebody_else_to_run(run, postgres):
    printed = run("upgrade", "--sql")
    assert "has no tables" in run("status", code=1)

    postgres.ask(printed)

    assert f"has version {VERSION}" in run("status")


def test_another_broker_has_no_tables(run):
    with pytest.raises(ImproperlyConfigured, match="`cardoon db` is for postgresql, not sqlite"):
        run("status", broker="sqlite:///x.db")
