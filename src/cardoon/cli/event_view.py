"""The view of `cardoon events`: what the keys do, and which lines stand on the screen. No terminal in it.

Everything that events say is somebody else's text: what could move the cursor, change its direction or
pile up is written as its number.
"""

from __future__ import annotations

import enum
import time
import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from cardoon.events.receiver import EventReceiver
from cardoon.events.state import State, Task, Worker

MAX_FILTER = 100
"""Characters of a filter."""

HELP = (
    "w, t       list the workers, or the tasks",
    "arrows     move; j, k, page up and down, home and end, too",
    "Enter      look closer: at the tasks of a worker, at the history of a task",
    "Esc        back",
    "/          show only what has a text in its name, id, state or worker; Enter ends, Esc clears",
    "p          pause the list; what happens meanwhile is taken in",
    "v          of a task: read its result, which may take a key that you have not",
    "r          revoke a task; asks before",
    "q          end",
)
_FOOT = "w workers  t tasks  Enter look  / filter  p pause  r revoke  ? help  q end"


class Style(enum.Enum):
    """How a line looks."""

    PLAIN = "plain"
    TITLE = "title"
    HEAD = "head"
    CHOSEN = "chosen"
    GOOD = "good"
    BAD = "bad"
    BUSY = "busy"
    FAINT = "faint"
    ALARM = "alarm"


class Line(NamedTuple):
    """One line of the screen."""

    text: str
    style: Style = Style.PLAIN


class Key(enum.Enum):
    """Keys that are no characters."""

    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    ENTER = "enter"
    ESCAPE = "escape"
    BACKSPACE = "backspace"


class Page(enum.Enum):
    """What is shown."""

    TASKS = "tasks"
    WORKERS = "workers"
    TASK = "task"
    HELP = "help"


class Desk(Protocol):
    """What the view asks for beyond events."""

    def revoke(self, task_id: str) -> None:
        """Have a task not run, or stop."""
        ...

    def look_up(self, task_id: str, *, with_value: bool, told: Callable[[str], None]) -> None:
        """Find the stored result, without waiting: `told` is called with what it is, later."""
        ...


_STATE_STYLES = {
    "SUCCESS": Style.GOOD,
    "FAILURE": Style.BAD,
    "REVOKED": Style.BAD,
    "REJECTED": Style.BAD,
    "RETRY": Style.BUSY,
    "STARTED": Style.BUSY,
}
_MOVES = {"j": Key.DOWN, "k": Key.UP, "g": Key.HOME, "G": Key.END}


class View:
    """What is on the screen, for one user. For one thread; the state is filled by another."""

    def __init__(self, state: State, receiver: EventReceiver, desk: Desk) -> None:
        self._state = state
        self._receiver = receiver
        self._desk = desk
        self.page = Page.TASKS
        self.ended = False
        self._before: list[Page] = []
        self._chosen: dict[Page, str] = {}
        """What the cursor is on: a task's id, a worker's name."""
        self._top: dict[Page, int] = {}
        self._task = ""
        self._worker = ""
        """The one whose tasks are shown; empty for those of all."""
        self._filter = ""
        self._typing = False
        self._revoking = ""
        self._paused: list[tuple[str, Line]] | None = None
        self._found: dict[str, str] = {}
        self._said = ""
        self._height = 24

    # Keys

    def press(self, key: Key | str) -> None:
        """A key was pressed: a character, or one that is none."""
        self._said = ""
        if self._revoking:
            self._answer(key)
        elif self._typing:
            self._type(key)
        elif isinstance(key, Key) or key in _MOVES:
            self._move(key if isinstance(key, Key) else _MOVES[key])
        else:
            self._command(key)

    def _command(self, key: str) -> None:
        match key:
            case "q":
                self.ended = True
            case "w":
                self._go(Page.WORKERS)
            case "t":
                self._worker = ""
                self._go(Page.TASKS)
            case "?" | "h":
                self._open(Page.HELP)
            case "/" if self.page in {Page.TASKS, Page.WORKERS}:
                self._typing = True
            case "p":
                self._paused = None if self._paused is not None else self._rows()
            case "r" if self._target():
                self._revoking = self._target()
            case "v" if self.page is Page.TASK:
                self._look_up(with_value=True)
            case _:
                self._said = "no such key here; ? tells which there are"

    def _answer(self, key: Key | str) -> None:
        """Whether to revoke: only `y` is yes."""
        task_id, self._revoking = self._revoking, ""
        if key != "y":
            self._said = "not revoked"
            return
        try:
            self._desk.revoke(task_id)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is said and not the end
            self._said = f"not revoked: {error}"
        else:
            self._said = f"revoked {task_id}"

    def _type(self, key: Key | str) -> None:
        match key:
            case Key.ENTER:
                self._typing = False
            case Key.ESCAPE:
                self._typing, self._filter = False, ""
            case Key.BACKSPACE:
                self._filter = self._filter[:-1]
            case str() if key.isprintable() and len(self._filter) < MAX_FILTER:
                self._filter += key
        self._paused = None

    def _move(self, key: Key) -> None:
        if key is Key.ESCAPE:
            self._back()
            return
        if key is Key.ENTER:
            self._enter()
            return
        ids = [each for each, _ in self._shown_rows()]
        if not ids:
            return
        at = self._place(ids)
        page = max(1, self._height - 5)
        steps = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -page, Key.PAGE_DOWN: page}
        ends = {Key.HOME: 0, Key.END: len(ids) - 1}
        at = ends.get(key, at + steps.get(key, 0))
        self._chosen[self.page] = ids[max(0, min(len(ids) - 1, at))]

    def _enter(self) -> None:
        rows = self._shown_rows()
        if not rows:
            return
        chosen = rows[self._place([each for each, _ in rows])][0]
        if self.page is Page.WORKERS:
            self._worker, self._filter = chosen, ""
            self._open(Page.TASKS)
        elif self.page is Page.TASKS:
            self._task = chosen
            self._open(Page.TASK)
            self._look_up(with_value=False)

    def _look_up(self, *, with_value: bool) -> None:
        task_id = self._task
        self._found = {task_id: "looking ..."}

        def told(text: str) -> None:
            if task_id in self._found:
                self._found = {task_id: text}

        self._desk.look_up(task_id, with_value=with_value, told=told)

    def _target(self) -> str:
        """The task that a command is about."""
        if self.page is Page.TASK:
            return self._task
        if self.page is not Page.TASKS:
            return ""
        rows = self._shown_rows()
        return rows[self._place([each for each, _ in rows])][0] if rows else ""

    def _go(self, page: Page) -> None:
        self._before.clear()
        self.page, self._paused, self._filter = page, None, ""

    def _open(self, page: Page) -> None:
        if self.page is not page:
            self._before.append(self.page)
        self.page, self._paused = page, None

    def _back(self) -> None:
        if self._before:
            self.page = self._before.pop()
            if self.page is Page.WORKERS:
                self._worker = ""
        elif self._filter:
            self._filter = ""
        self._paused = None

    # Lines

    def lines(self, height: int, width: int) -> list[Line]:
        """The screen: at most `height` lines, none wider than `width` cells."""
        self._height = height
        if height < 4 or width < 20:
            return [Line(fit("too small", width))][:height]
        body = height - 3
        head, rows = self._content(body, width)
        shown = [Line(fit(head, width), Style.HEAD), *rows[: body - 1]]
        shown += [Line("")] * (body - len(shown))
        found = [self._title(), *shown, self._message(), Line(_FOOT, Style.FAINT)]
        return [Line(fit(line.text, width), line.style) for line in found][:height]

    def _content(self, body: int, width: int) -> tuple[str, list[Line]]:
        match self.page:
            case Page.HELP:
                return "Keys", [Line(text) for text in HELP]
            case Page.TASK:
                return "Task", self._task_lines()
            case _:
                return self._list(body - 1, width)

    def _list(self, room: int, width: int) -> tuple[str, list[Line]]:
        rows = self._shown_rows()
        ids = [each for each, _ in rows]
        at = self._place(ids) if ids else 0
        top = self._top.get(self.page, 0)
        top = max(0, min(top, at, len(rows) - 1))
        top = max(top, at - room + 1)
        self._top[self.page] = top
        lines = [
            Line(fit(line.text, width).ljust(width), Style.CHOSEN) if top + place == at else line
            for place, (_, line) in enumerate(rows[top : top + room])
        ]
        if not lines:
            lines = [Line(self._nothing(), Style.FAINT)]
        head = _WORKER_HEAD if self.page is Page.WORKERS else _TASK_HEAD
        return head, lines

    def _nothing(self) -> str:
        if self._filter:
            return f"nothing has {self._filter!r} in it"
        if self.page is Page.WORKERS:
            return "no worker has been heard of; each tells of itself every two seconds"
        return "no task has been heard of; workers tell of tasks when started with -E"

    def _title(self) -> Line:
        state, receiver = self._state, self._receiver
        alive = sum(1 for _ in state.alive_workers())
        told = [
            f"cardoon events: {state.event_count} events",
            f"{alive} of {len(state.workers)} workers alive",
            f"{len(state.tasks)} tasks",
        ]
        if self._worker and self.page is Page.TASKS:
            told.append(f"of {self._worker}")
        if self._filter or self._typing:
            told.append(f"/{self._filter}")
        if self._paused is not None:
            told.append("PAUSED")
        # Copied first: another thread counts.
        refused, lost = (sum([*one.values()]) for one in (receiver.refused, receiver.lost))
        if refused or lost:
            told.append(f"REFUSED {refused} MISSING {lost}")
            return Line(", ".join(told), Style.ALARM)
        return Line(", ".join(told), Style.TITLE)

    def _message(self) -> Line:
        if self._revoking:
            return Line(f"revoke {self._revoking} and stop it if it runs? y/n", Style.ALARM)
        if self._typing:
            return Line(f"filter: {self._filter}_")
        return Line(self._said)

    def _shown_rows(self) -> list[tuple[str, Line]]:
        return self._rows() if self._paused is None else self._paused

    def _rows(self) -> list[tuple[str, Line]]:
        return self._state.freeze_while(
            self._worker_rows if self.page is Page.WORKERS else self._task_rows
        )

    def _worker_rows(self) -> list[tuple[str, Line]]:
        workers = sorted(self._state.workers.values(), key=lambda worker: worker.hostname)
        now = time.time()
        return [
            (worker.hostname, Line(_worker_text(worker, now), _worker_style(worker)))
            for worker in workers
            if self._fits(worker.hostname, worker.status_string, worker.signer)
        ]

    def _task_rows(self) -> list[tuple[str, Line]]:
        found = (
            self._state.tasks_by_worker(self._worker)
            if self._worker
            else self._state.tasks_by_time()
        )
        return [
            (uuid, Line(_task_text(task), _STATE_STYLES.get(task.state, Style.PLAIN)))
            for uuid, task in found
            if self._fits(uuid, task.name, task.state, _hostname(task))
        ]

    def _fits(self, *texts: str | None) -> bool:
        wanted = self._filter.lower()
        return not wanted or any(wanted in text.lower() for text in texts if text)

    def _place(self, ids: Sequence[str]) -> int:
        """Where the cursor is: with what it was put on, or at the first line if that is gone or none."""
        chosen = self._chosen.get(self.page)
        return ids.index(chosen) if chosen in ids else 0

    def _task_lines(self) -> list[Line]:
        task = self._state.tasks.get(self._task)
        if task is None:
            return [Line(f"{self._task} is no longer in memory", Style.FAINT)]
        told = {
            "id": task.uuid,
            "name": task.name,
            "state": task.state,
            "worker": _hostname(task),
            "queue": task.queue,
            "sent by": task.client,
            "retries": task.retries or None,
            "eta": task.eta,
            "expires": task.expires,
            "parent": task.parent_id,
            "root": task.root_id if task.root_id != task.uuid else None,
            "runtime": None if task.runtime is None else f"{task.runtime:.4f} s",
            "exception": task.exception,
            "violations": task.violations or None,
            "result": self._found.get(task.uuid),
        }
        lines = [Line(f"{name:<10}  {value}") for name, value in told.items() if value is not None]
        lines.append(Line("History", Style.HEAD))
        history = list(task.history)
        lines += [
            Line(f"{_clock(one.timestamp)}  {one.type:<16} {one.hostname}") for one in history
        ]
        return lines


_TASK_HEAD = f"{'time':<12} {'state':<8} {'name':<28} {'id':<36} {'runtime':>8}  worker"
_WORKER_HEAD = f"{'worker':<32} {'state':<7} {'pid':>7} {'active':>6} {'done':>8} {'load':>6} {'heard':>8}  signer"


def _task_text(task: Task) -> str:
    runtime = "" if task.runtime is None else f"{task.runtime:.3f}"
    name, uuid = fit(task.name or "?", 28), fit(task.uuid, 36)
    return (
        f"{_clock(task.timestamp)} {task.state:<8} {pad(name, 28)} {pad(uuid, 36)} {runtime:>8}  "
        f"{_hostname(task)}"
    )


def _worker_text(worker: Worker, now: float) -> str:
    load = f"{worker.loadavg[0]:.2f}" if worker.loadavg else ""
    heard = f"{max(0.0, now - worker.heard):.1f} s"
    name = fit(worker.hostname, 32)
    return (
        f"{pad(name, 32)} {worker.status_string:<7} {_shown(worker.pid):>7} {_shown(worker.active):>6} "
        f"{_shown(worker.processed):>8} {load:>6} {heard:>8}  {worker.signer}"
    )


def _worker_style(worker: Worker) -> Style:
    return Style.GOOD if worker.alive else Style.BAD


def _hostname(task: Task) -> str:
    return "" if task.worker is None else task.worker.hostname


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.0f}"


def _clock(timestamp: float) -> str:
    try:
        return datetime.fromtimestamp(timestamp).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (OverflowError, ValueError, OSError):
        return "?".ljust(12)


def pad(text: str, width: int) -> str:
    """A text filled up to so many cells of the terminal."""
    return text + " " * (width - sum(map(_cells, text)))


def fit(text: str, width: int) -> str:
    """As much of a text as fits so many cells; what is not plainly printable is written as its number."""
    taken: list[str] = []
    left = width
    for char in text:
        shown = char
        if not char.isprintable() or unicodedata.category(char) in {"Mn", "Me", "Mc"}:
            shown = f"\\x{ord(char):02x}"
        needed = sum(map(_cells, shown))
        if needed > left:
            break
        taken.append(shown)
        left -= needed
    return "".join(taken)


def _cells(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1
