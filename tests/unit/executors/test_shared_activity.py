"""What a worker writes on its page is what its driver reads, at any moment."""

from __future__ import annotations

import mmap
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from curate.engine.protocol.activity import CAPACITY, SharedActivity, read_activity

STAGES = 3


def page(stages: int = STAGES) -> tuple[SharedActivity, memoryview[int]]:
    words = memoryview(bytearray(8 * SharedActivity.words_for(stages))).cast("Q")
    return SharedActivity(words), words


def ids(size: int) -> list[str]:
    return [f"r:{n}" for n in range(size)]


def test_an_empty_page_says_nothing() -> None:
    _, words = page()
    assert read_activity(words) == (0, {})


@given(
    st.lists(
        st.tuples(
            st.integers(0, STAGES - 1),
            st.none() | st.builds(range, st.integers(0, 9), st.integers(10, 19)) | st.lists(st.integers(0, 19)),
        )
    )
)
def test_the_last_word_of_every_stage_counts(said: list[tuple[int, range | list[int] | None]]) -> None:
    writer, words = page()
    writer.begin(9, ids(20))
    expected: dict[int, list[int]] = {}
    for stage, what in said:
        expected.pop(stage, None)
        if what is None:
            writer.idle(stage)
        else:
            writer.announce(stage, what)
            if what:
                expected[stage] = list(what)
        number, announced = read_activity(words)
        assert (number, {at: list(positions or ()) for at, positions in announced.items()}) == (9, expected)


def test_records_have_the_positions_at_which_they_came() -> None:
    writer, _ = page()
    writer.begin(1, ids(5))
    assert list(writer.positions([f"r:{number}" for number in range(5)])) == [0, 1, 2, 3, 4]
    assert list(writer.positions(["r:4", "r:4", "r:1"])) == [4, 4, 1]


def test_a_new_batch_begins_with_a_clean_page() -> None:
    writer, words = page()
    writer.begin(1, ids(5))
    writer.announce(0, [3])
    writer.announce(2, [4])
    writer.begin(2, ids(5))
    assert read_activity(words) == (2, {})


def test_more_than_a_page_holds_means_any_of_them() -> None:
    writer, words = page()
    many = list(range(CAPACITY + 1))
    writer.begin(1, ids(CAPACITY + 1))
    writer.announce(1, many)
    assert read_activity(words) == (1, {1: None})
    writer.announce(1, many[:-1])
    assert read_activity(words) == (1, {1: tuple(range(CAPACITY))})
    writer.announce(1, many[-1:])
    assert read_activity(words) == (1, {1: (CAPACITY,)})


def test_any_number_of_neighbours_is_told_apart() -> None:
    writer, words = page()
    size = 3 * CAPACITY
    writer.begin(1, ids(size))
    writer.announce(1, writer.positions(ids(size)))
    assert read_activity(words) == (1, {1: range(size)})
    writer.announce(1, range(CAPACITY, size))
    assert read_activity(words) == (1, {1: range(CAPACITY, size)})


def test_the_stages_do_not_write_over_each_other() -> None:
    writer, words = page()
    writer.begin(1, ids(CAPACITY))
    for stage in range(STAGES):
        writer.announce(stage, list(range(CAPACITY)))
    assert read_activity(words) == (1, {stage: tuple(range(CAPACITY)) for stage in range(STAGES)})


def test_a_death_between_two_stores_leaves_no_record_out() -> None:
    """A store is a word. In between, the page says nothing, which means any record, or what it said before."""

    class Dies(Exception): ...

    class Words:
        """Memory of a process that dies at a certain store."""

        def __init__(self, left: int) -> None:
            self.memory = [0] * SharedActivity.words_for(1)
            self.left = left

        def __len__(self) -> int:
            return len(self.memory)

        def __setitem__(self, place: int | slice, value: int | memoryview[int]) -> None:
            span = slice(place, place + 1) if isinstance(place, int) else place
            values = [value] if isinstance(value, int) else value
            for at, each in zip(range(span.start, span.stop), values, strict=True):
                if not self.left:
                    raise Dies
                self.left -= 1
                self.memory[at] = each

    for left in range(100):
        words = Words(left)
        writer = SharedActivity(words)  # pyright: ignore[reportArgumentType]
        try:
            writer.begin(1, ids(6))
            writer.announce(0, [1, 2])
            writer.announce(0, [3, 4, 5])
        except Dies:
            _, announced = read_activity(words.memory)
            # nothing (so any record is a suspect), or all that was announced last
            assert announced in ({}, {0: (1, 2)}), left
        else:
            break
    else:
        raise AssertionError("it never came to its end")


def test_a_page_in_a_file_is_seen_through_another_mapping() -> None:
    size = 8 * SharedActivity.words_for(1)
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        here, there = mmap.mmap(file.fileno(), size), mmap.mmap(file.fileno(), size)
        writer = SharedActivity(memoryview(here).cast("Q"))
        writer.begin(4, ids(5))
        writer.announce(0, [2])
        assert read_activity(memoryview(there[:]).cast("Q")) == (4, {0: (2,)})


def test_progress_changes_the_page_and_no_announcement() -> None:
    writer, words = page()
    writer.begin(3, ["a", "b"])
    writer.announce(0, range(1))
    before, announced = bytes(words), read_activity(words)
    writer.progress()
    assert bytes(words) != before
    assert read_activity(words) == announced
