"""The tour in the pages is what its commands say."""

from tests.tour import tour


def test_the_page_is_what_the_commands_say():
    assert tour.PAGE.read_text(encoding="utf-8") == tour.take()
