"""The demo: a real job on signed messages, and then an attack on its queue.

    python demo/run.py [--folder FOLDER] [--query WORDS] [--workers N] [--keep]

Exits with 1 if an attack succeeded, anything was lost, or the worker did not end well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tasks
from job import STANDARD_LIBRARY, Library, find_files, run_job, show_answers, show_summary
from project import STATE, DemoError, Project
from screen import Screen

from attacks import Attack, Attacker, QueueFile, Verdict, judge
from cardoon import states
from cardoon.result import AsyncResult

STANDARD_QUERY = "parse json string"
SHOWN = 6
"""Names, words and answers that are shown of each."""
TRUST_DOMAIN = "cardoon.local"
"""What `cardoon init` takes if it is given none."""
COPY_SECONDS = 3.0
"""For which a task waits, so that the attacker can copy its message."""
FORGE_SECONDS = 6.0
"""For which the tasks wait whose results are forged. A result of an unknown signer is looked at again
after 2 s, lest a certificate be on its way."""
REFUSAL_SECONDS = 30.0
"""Within which all attacks are refused, or never."""
ROUNDS_EMPTY = 3
"""Looks at an empty queue after which no more refusals are expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says."""

    folder: Path
    query: str
    """Empty for two words that the texts have."""
    workers: int
    out: Path
    keep: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    options = _parse(arguments)
    screen = Screen()
    project = Project(options.out)
    try:
        library = find_files(options.folder)
        project.enter()
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    holds = False
    try:
        holds = show(screen, project, library, options)
    except DemoError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    finally:
        tasks.app.close()
        project.stop_worker()
        if holds and not options.keep:
            project.remove()
        else:
            screen.explain(f"Kept: {project.folder} (queue, quarantine, audit trail, log).")
    return 0 if holds else 1


def show(screen: Screen, project: Project, library: Library, options: Options) -> bool:
    """The whole demo, in order; whether everything is as it must be."""
    began = time.monotonic()
    screen.head("Cardoon: a job on signed messages, and an attack on its queue")
    screen.head("1  Identities", "$ cardoon init")
    screen.explain("An authority, and a key and a certificate each for the client and the worker.")
    for line in project.run_command("init").partition("\n\n")[0].splitlines():
        screen.write(line)

    screen.head("2  A worker", f"$ cardoon -A tasks worker -c {options.workers}")
    pid = project.start_worker(options.workers)
    first = tasks.note.delay("the worker runs")
    journal = [project.wait_for(first)]
    screen.write(f"process {pid}; the {options.workers} under it that run tasks hold no keys")

    index = run_job(screen, project, library)
    summary = project.wait_for(tasks.summarise.delay(index, SHOWN))
    show_summary(screen, summary)
    query = options.query or " ".join(word for word, _ in summary["words"][:2])
    question = (str(library.folder), index, query, SHOWN)
    answers = project.wait_for(tasks.search.delay(*question))
    show_answers(screen, query, answers)

    screen.head("4  The attack", f"on {STATE}/cardoon.db")
    screen.explain(
        "The attacker writes the queue file while the worker runs; then with a stolen key."
    )
    screen.explain(
        "What no signature prevents: deleting messages, results or the marks against replay."
    )
    attacks = attack(project, first, journal)
    verdicts = await_verdicts(project, attacks)
    show_verdicts(screen, verdicts)

    screen.head("5  Afterwards")
    again = project.wait_for(tasks.search.delay(*question))
    checks = [
        screen.check("the query, sent again, has the same answer", holds=again == answers),
        check_attacks(screen, verdicts),
        check_journal(screen, journal),
        check_stores(screen, project),
        check_worker(screen, project),
    ]
    screen.explain(f"All in {time.monotonic() - began:.0f} s.")
    return all(checks)


def attack(project: Project, first: AsyncResult[str], journal: list[str]) -> list[Attack]:
    """Send some tasks, and let the attacker do to them and to the queue what is possible.

    `first` is a task that was carried out. The lines that the new ones write, when all goes well,
    are added to `journal`.
    """
    captured = tasks.note.apply_async(("task one was carried out",), countdown=COPY_SECONDS)
    pending, other = (
        tasks.note.apply_async((f"task {name} was carried out",), countdown=FORGE_SECONDS)
        for name in ("two", "three")
    )
    archived = tasks.note.apply_async(("archived",), queue="archive")
    queue_file = QueueFile(STATE / "cardoon.db")
    try:
        attacker = Attacker(queue_file, folder=Path("attacker"), trust_domain=TRUST_DOMAIN)
        genuine = queue_file.read_message(captured.id)
        forged = [
            attacker.forge_result(pending.id, pending.request or b""),
            attacker.swap_result(other.id, first.id),
        ]
        attacks = [
            *attacker.tamper(genuine),
            *attacker.sign_as_stranger(),
            attacker.misdirect(archived.id),
            *attacker.insert_garbage(),
            *attacker.misuse(STATE / "client.key", STATE / "client.pem"),
        ]
        await_refusals(project, [pending, other])
        journal.append(project.wait_for(captured))
        attacks += [attacker.replay(genuine), attacker.confuse(captured.id)]
        journal += [project.wait_for(pending), project.wait_for(other)]
    finally:
        queue_file.close()
    return attacks + forged


def await_refusals(project: Project, results: Sequence[AsyncResult[str]]) -> None:
    """Look at forged results until the client has refused them, which makes room for the true ones."""
    deadline = time.monotonic() + REFUSAL_SECONDS
    for result in results:
        while not any(record.get("task_id") == result.id for record in project.read_audit()):
            if result.state != states.PENDING:
                raise DemoError(f"the client believed the forged result of task {result.id}")
            if time.monotonic() > deadline:
                raise DemoError(f"the client did not refuse the forged result of task {result.id}")
            time.sleep(0.1)


def await_verdicts(project: Project, attacks: Sequence[Attack]) -> list[Verdict]:
    """What became of the attacks: when the queue has been empty for a while, nothing follows."""
    deadline = time.monotonic() + REFUSAL_SECONDS
    rounds_empty = 0
    while True:
        rounds_empty = 0 if count_waiting(project) else rounds_empty + 1
        quarantine = project.ask_command("quarantine", "list", "--limit", "1000")
        verdicts = judge(attacks, quarantine, project.read_audit())
        is_known = all(verdict.repelled for verdict in verdicts) or rounds_empty == ROUNDS_EMPTY
        if is_known or time.monotonic() > deadline or not project.is_alive:
            return verdicts


def show_verdicts(screen: Screen, verdicts: Sequence[Verdict]) -> None:
    """The table of attacks."""
    rows = [
        (
            one.repelled,
            (
                one.attack.what,
                one.reason or "NOT REFUSED",
                "-" if one.number is None else f"no. {one.number}",
                one.event or "-",
            ),
        )
        for one in verdicts
    ]
    screen.table(("attack", "refused as", "quarantine", "audit trail"), rows)


def check_attacks(screen: Screen, verdicts: Sequence[Verdict]) -> bool:
    """Whether every attack was refused for its own reason."""
    repelled = sum(verdict.repelled for verdict in verdicts)
    text = f"{repelled} of {len(verdicts)} attacks were refused, quarantined and audited"
    return screen.check(text, holds=repelled == len(verdicts))


def check_journal(screen: Screen, expected: Sequence[str]) -> bool:
    """Whether what should run ran once, and nothing else did."""
    lines = tasks.JOURNAL.read_text(encoding="utf-8").splitlines()
    text = f"{len(expected)} notes were asked for, and {len(lines)} were written"
    return screen.check(text, holds=sorted(lines) == sorted(expected))


def check_stores(screen: Screen, project: Project) -> bool:
    """Whether no message is left over."""
    waiting = count_waiting(project)
    dead = project.ask_command("dead", "list")
    text = f"nothing was lost: {waiting} messages wait, {len(dead)} are dead letters"
    return screen.check(text, holds=waiting == 0 and not dead)


def check_worker(screen: Screen, project: Project) -> bool:
    """Whether the worker is unharmed, and ends well when it is asked to."""
    events = [record["event"] for record in project.read_audit()]
    losses = events.count("task.process_lost")
    is_unharmed = project.is_alive and events.count("worker.start") == 1 and losses == 0
    code = project.stop_worker()
    text = f"the worker lost {losses} of its processes; SIGTERM ended it with exit code {code}"
    return screen.check(text, holds=is_unharmed and code == 0)


def count_waiting(project: Project) -> int:
    """How many messages are in any queue, or with the worker."""
    depths = project.ask_command("queues")
    return sum(depth["ready"] + depth["scheduled"] + depth["leased"] for depth in depths)


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        description="Index a folder by signed tasks, and then attack the queue."
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=STANDARD_LIBRARY,
        help="texts to index; by default Python's standard library",
    )
    parser.add_argument("--query", default="", help="words to search for")
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="processes that run tasks; by default as many as CPUs",
    )
    parser.add_argument("--keep", action="store_true", help="keep the project folder")
    parser.add_argument(
        "--out", type=Path, help="project folder, not used yet; demo/out by default"
    )
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    if not folder.is_dir():
        parser.error(f"--folder {given.folder}: there is no such folder")
    if given.workers < 1:
        parser.error(f"--workers {given.workers}: at least 1")
    usual = Path(__file__).resolve().with_name("out")
    if given.out is None:
        shutil.rmtree(usual, ignore_errors=True)  # what a run with --keep has left
    return Options(
        folder=folder,
        query=given.query or (STANDARD_QUERY if folder == STANDARD_LIBRARY else ""),
        workers=given.workers,
        out=usual if given.out is None else given.out.resolve(),
        keep=given.keep,
    )


if __name__ == "__main__":
    sys.exit(main())
