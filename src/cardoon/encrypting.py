"""What the settings say of encryption: to whom this process seals, and what it can open."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from cardoon.clock import Clock
from cardoon.config import Settings
from cardoon.exceptions import ImproperlyConfigured, SecurityError
from cardoon.security import keymaking
from cardoon.security.keyholding import (
    RECORD,
    Keyring,
    KeysetFolder,
    OnEvent,
    OpenRecord,
    OwnKey,
    own_pair,
)
from cardoon.security.keyset import CLIENTS, WORKERS
from cardoon.security.sealing import PrivateKeys, Seal, Unsealer
from cardoon.security.signing import Signer

OFF = "off"
BODY = "body"
"""What `security_encrypt` may say."""


def find_folder(settings: Settings, state_directory: Path, name: str) -> Path:
    """Where a group's keyset lies; `ImproperlyConfigured` if the settings do not say."""
    told = settings.security_keyset if name == WORKERS else settings.security_reply_keyset
    if told:
        return Path(told).expanduser()
    if name == WORKERS:
        return state_directory / "keyset"
    raise ImproperlyConfigured(
        "security_reply_keyset is not set, so results are read by the process that sent the task alone; "
        "set it to a folder"
    )


def seen_file(state_directory: Path, name: str, folder: Path) -> Path:
    """Where the highest version of a keyset is remembered."""
    mark = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:8]
    return state_directory / f"keyset-{name}-{mark}.seen"


class Encrypting:
    """One app's keys, for one process.

    A process opens what is sealed to any private key that it can read: those in the folders of the
    settings, and, unless it is a worker, one that exists in its memory alone.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        role: str,
        state_directory: Path,
        clock: Clock,
        open_record: OpenRecord,
        on_event: OnEvent,
    ) -> None:
        self._clock = clock
        self.seals = settings.security_encrypt != OFF
        """Whether what this process sends is sealed."""

        def open_folder(name: str) -> KeysetFolder:
            folder = find_folder(settings, state_directory, name)
            return KeysetFolder(
                folder,
                name,
                open_record=open_record,
                seen=seen_file(state_directory, name, folder),
                clock=clock,
                on_event=on_event,
            )

        self._workers = open_folder(WORKERS)
        self._is_worker = role == "worker"
        self._clients: KeysetFolder | None = None
        places: list[PrivateKeys] = [] if self._is_worker else [OwnKey()]
        if settings.security_reply_keyset and not self._is_worker:
            self._clients = open_folder(CLIENTS)
            places.append(self._clients)
        self.unsealer = Unsealer(Keyring([*places, self._workers]))

    @property
    def has_keyset(self) -> bool:
        """Whether there is a record, good or not."""
        return (self._workers.folder / RECORD).exists()

    def make_keyset(self, signer: Signer) -> None:
        """Make a keyset unless there is one, for what only this project's user can reach."""
        keymaking.create(self._workers.folder, WORKERS, signer, now=self._clock.now())

    def check(self) -> None:
        """`SecurityError` or `ImproperlyConfigured` if what this process sends could not be sealed.

        Or if it is a worker that could open nothing of what others seal, and would quarantine it all.
        """
        if not self.seals:
            return
        self.seal()
        primary = self._workers.primary()
        if self._is_worker and self._workers.find(primary.id) is None:
            raise SecurityError(
                f"{self._workers.folder}: the private key {primary.id.hex()}, which tasks are sealed to, is not "
                "here; copy it from the host where `cardoon keys` made it"
            )

    def seal(self) -> Seal | None:
        """To whom what is sent now is sealed; None where it travels in the clear."""
        if not self.seals:
            return None
        try:
            return Seal((self._workers.primary().public,), self._reply())
        except SecurityError as error:
            if self.has_keyset:
                raise
            raise ImproperlyConfigured(
                "security_encrypt is on, but there is no keyset to seal to: "
                f"{self._workers.folder / RECORD} does not exist; make one with `cardoon keys init`, or name "
                "its folder in security_keyset"
            ) from error

    def describe(self) -> str:
        """What is sealed to whom, for people."""
        if not self.seals:
            return ""
        keyset = self._workers.keyset()
        primary = keyset.primary(self._clock.now())
        return f"bodies sealed to key {primary.id.hex()} (keyset version {keyset.version})"

    def _reply(self) -> bytes:
        """The key that results are sealed to as well; a worker can open those of the workers anyway."""
        if self._is_worker:
            return b""
        return own_pair().public if self._clients is None else self._clients.primary().public
