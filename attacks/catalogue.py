"""All attacks: the modules that enter them, in the order in which they are tried."""

from __future__ import annotations

from attacks import (
    on_certificates,
    on_chords,
    on_claims,
    on_commands,
    on_floods,
    on_forging,
    on_insiders,
    on_replays,
    on_results,
    on_stores,
)
from attacks.matrix import ATTACKS, Attack

MODULES = (
    on_forging,
    on_claims,
    on_certificates,
    on_insiders,
    on_replays,
    on_results,
    on_chords,
    on_commands,
    on_stores,
    on_floods,
)
"""Which have entered their attacks by being imported."""


def all_attacks() -> list[Attack]:
    """In order: those that may break something come last."""
    found = list(ATTACKS.values())
    return sorted(found, key=lambda one: one.alone)


QUICK = (
    "signed_by_a_stranger",
    "stranger_under_the_clients_name",
    "unsigned",
    "signature_with_a_flipped_bit",
    "arguments_changed_at_same_length",
    "signed_for_another_deployment",
    "algorithm_none",
    "celery_message_of_protocol_2",
    "content_pickle",
    "alter_max_retries",
    "ill_sequence_8192",
    "expired",
    "offered_early_as_a_retry",
    "key_of_small_order",
    "revoked_client",
    "task_of_others",
    "task_in_the_place_of_anothers",
    "zlib_bomb",
    "replayed_after_its_end",
    "result_of_another_task",
    "result_by_a_signer_for_other_tasks_under_their_name",
    "part_by_another_client",
    "chord_is_left_alone",
    "revoke_by_another_client",
    "row_id_blob",
    "row_retries_huge",
)
"""Those that run with the tests, on SQLite."""
