"""All attempts: the modules that enter them, in the order in which they are tried."""

from __future__ import annotations

from escapes import (
    granted,
    on_earlier_tasks,
    on_files,
    on_kernel,
    on_memory,
    on_network,
    on_processes,
    on_programs,
    on_resources,
    on_secrets,
    on_workers,
)
from escapes.matrix import ATTEMPTS, Attempt

MODULES = (
    granted,
    on_secrets,
    on_memory,
    on_earlier_tasks,
    on_processes,
    on_programs,
    on_files,
    on_network,
    on_kernel,
    on_resources,
    on_workers,
)
"""Which have entered their attempts by being imported."""


def all_attempts() -> list[Attempt]:
    """In order."""
    return list(ATTEMPTS.values())


QUICK = (
    "read_key",
    "read_key_by_proc_self_root",
    "read_key_by_a_symbolic_link",
    "search_workers_memory",
    "read_sibling_at_a_known_address",
    "files_of_an_earlier_task",
    "kill_a_sibling",
    "leave_a_daemon",
    "become_a_shell",
    "write_beside_the_code",
    "truncate_by_opening",
    "connect_to_the_broker",
    "send_from_a_pair",
    "new_user_namespace",
    "use_io_uring",
    "fill_a_memory_file",
)
"""Those that run with the tests."""
