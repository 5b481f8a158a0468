"""The screen of `cardoon events`: brings the view to a terminal, and its keys to the view."""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import sys
import threading
from collections.abc import Callable, Mapping

import click

from cardoon import states
from cardoon.app import Cardoon
from cardoon.cli.event_view import Key, Line, Style, View
from cardoon.cli.events import Watch

LOOK_SECONDS = 0.25
"""From one look at the keys, and one drawing, to the next."""

_KEYS: Mapping[int, Key] = {
    curses.KEY_UP: Key.UP,
    curses.KEY_DOWN: Key.DOWN,
    curses.KEY_PPAGE: Key.PAGE_UP,
    curses.KEY_NPAGE: Key.PAGE_DOWN,
    curses.KEY_HOME: Key.HOME,
    curses.KEY_END: Key.END,
    curses.KEY_ENTER: Key.ENTER,
    curses.KEY_BACKSPACE: Key.BACKSPACE,
}
_CHARACTERS: Mapping[str, Key] = {
    "\n": Key.ENTER,
    "\r": Key.ENTER,
    "\x1b": Key.ESCAPE,
    "\x7f": Key.BACKSPACE,
    "\x08": Key.BACKSPACE,
}
_COLOURS: Mapping[Style, int] = {
    Style.GOOD: curses.COLOR_GREEN,
    Style.BAD: curses.COLOR_RED,
    Style.BUSY: curses.COLOR_YELLOW,
    Style.ALARM: curses.COLOR_RED,
}


def show(app: Cardoon) -> None:
    """Show the view until its user ends it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("there is no terminal to show it on; use --dump or --json")
    locale.setlocale(locale.LC_ALL, "")
    failures: list[BaseException] = []
    watch = Watch(app, on_failure=failures.append)
    view = View(watch.state, watch.receiver, Inquiries(app))
    watch.start()
    os.environ.setdefault("ESCDELAY", "50")  # milliseconds; Esc alone is a key here
    try:
        curses.wrapper(_serve, view, failures)
    except curses.error as error:
        raise click.UsageError(
            f"this terminal ({os.environ.get('TERM', 'TERM is not set')}) cannot show it: {error}; use "
            "--dump or --json"
        ) from error
    except KeyboardInterrupt:
        pass
    finally:
        watch.stop()
    if failures:
        raise failures[0]


class Inquiries:
    """What the view asks the app."""

    def __init__(self, app: Cardoon) -> None:
        self._app = app

    def revoke(self, task_id: str) -> None:
        """Revoke a task, and stop it if it runs."""
        self._app.control.revoke(task_id, terminate=True)

    def look_up(self, task_id: str, *, with_value: bool, told: Callable[[str], None]) -> None:
        """Read the result in a thread: the store may take its time."""

        def look() -> None:
            try:
                text = self._read(task_id, with_value=with_value)
            except Exception as error:  # noqa: BLE001  # told instead of it
                text = f"cannot be read: {error}"
            told(text)

        threading.Thread(target=look, name="look-up", daemon=True).start()

    def _read(self, task_id: str, *, with_value: bool) -> str:
        found = self._app.AsyncResult(task_id)
        state = found.state
        if not with_value or state not in states.READY_STATES:
            return f"{state}{'; v reads it' if state in states.READY_STATES else ''}"
        value = found.result
        shown = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else value
        return f"{state}: {shown}"


def _serve(window: curses.window, view: View, failures: list[BaseException]) -> None:
    styles = _make_styles()
    window.timeout(int(LOOK_SECONDS * 1000))
    window.keypad(True)
    with contextlib.suppress(curses.error):  # a terminal that always shows it
        curses.curs_set(0)
    while not view.ended and not failures:
        _draw(window, view.lines(*window.getmaxyx()), styles)
        _take_keys(window, view)


def _take_keys(window: curses.window, view: View) -> None:
    """Wait for a key, and take those that came with it; a new size only has all drawn again."""
    while True:
        try:
            pressed = window.get_wch()
        except curses.error:  # none came
            break
        if isinstance(pressed, int):
            if pressed == curses.KEY_RESIZE:
                curses.update_lines_cols()
                window.clear()
            elif pressed in _KEYS:
                view.press(_KEYS[pressed])
        else:
            view.press(_CHARACTERS.get(pressed, pressed))
        window.timeout(0)
    window.timeout(int(LOOK_SECONDS * 1000))


def _draw(window: curses.window, lines: list[Line], styles: Mapping[Style, int]) -> None:
    window.erase()
    for row, line in enumerate(lines):
        text = line.text.encode(window.encoding, "replace").decode(window.encoding)
        # Behind the last cell of the last line the cursor finds no place.
        with contextlib.suppress(curses.error):
            window.addstr(row, 0, text, styles[line.style])
    window.refresh()


def _make_styles() -> dict[Style, int]:
    styles = {
        Style.PLAIN: curses.A_NORMAL,
        Style.TITLE: curses.A_BOLD,
        Style.HEAD: curses.A_BOLD | curses.A_UNDERLINE,
        Style.CHOSEN: curses.A_REVERSE,
        Style.FAINT: curses.A_DIM,
        Style.GOOD: curses.A_NORMAL,
        Style.BAD: curses.A_BOLD,
        Style.BUSY: curses.A_NORMAL,
        Style.ALARM: curses.A_BOLD | curses.A_REVERSE,
    }
    if not curses.has_colors() or os.environ.get("NO_COLOR"):
        return styles
    curses.start_color()
    curses.use_default_colors()
    for number, (style, colour) in enumerate(_COLOURS.items(), 1):
        curses.init_pair(number, colour, -1)
        styles[style] |= curses.color_pair(number)
    return styles
