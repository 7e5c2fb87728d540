"""The one hint for unknown names."""

from __future__ import annotations

import pytest

from curate.suggest import closest, nearest


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("batchsize", ["name", "batch_size"], "did you mean 'batch_size'?"),
        ("zzz", ["name", "batch_size"], "choose from name, batch_size"),
        ("zzz", iter(["name"]), "choose from name"),
        ("zzz", [], "there are none"),
        (
            "model_name",
            ["name", "expression"],
            "choose from name, expression",
        ),  # shares letters, and means another thing
    ],
)
def test_a_hint_names_the_nearest_or_all(name: str, known: list[str], hint: str) -> None:
    assert closest(name, known) == hint


def test_a_hint_lists_at_most_a_hundred_names() -> None:
    hint = closest("zzz", (f"c{number}" for number in range(1_000_000)))
    assert hint.endswith("c98, c99, … (1,000,000 in all)")


def test_a_name_that_is_far_from_all_has_no_nearest() -> None:
    assert nearest("worker", iter(["workers", "name"])) == "workers"
    assert nearest("zzz", ["workers"]) is None
