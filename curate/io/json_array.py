"""A JSON array of records, read one after the other in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from curate.errors import RecordError
from curate.io import jsonl
from curate.io.format import Row
from curate.io.skipped_lines import SkippedBytes

_BLOCK_BYTES = 1 << 18

_BLANKS = re.compile(r"[ \t\r\n\ufeff]*")

_MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+("?)|[\[\]{},]', re.DOTALL)
"""A string, whose last quotation mark is missing where only a part of it is held, or what separates values."""


def array_rows(file: BinaryIO, after: int) -> Iterator[Row]:
    """Yield the elements of an array with their number, from 1; one that cannot be a record costs itself.

    Raises:
        EOFError: the array is broken or ends in the middle, so where the next record begins is unknown.
    """
    text = _Text(file)
    if text.next_character() != "[":
        raise EOFError("it does not begin with [")
    number = 0
    separator = "" if text.next_character() == "]" else ","
    text.back() if separator else None
    while separator == ",":
        number += 1
        element = text.element(number)
        if number > after:
            yield number, element
        separator = text.next_character()
        if separator not in (",", "]"):
            raise EOFError(f"the JSON array is broken behind record {number}: expected , or ]")
    if text.next_character():
        raise EOFError(f"something follows the JSON array of {number} records")


_NOT_UTF_8 = re.compile("[\udc80-\udcff]")
"""What bytes that are not UTF-8 become."""


class _Text:
    """A file as text, of which a bounded part is held."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._held = ""
        self._at = 0
        self._blanks = SkippedBytes(file)

    def next_character(self) -> str:
        """Return the next character that is not blank, empty at the end of the file."""
        while True:
            before, self._at = self._at, self._skip_blanks()
            if self._at < len(self._held):
                self._at += 1
                return self._held[self._at - 1]
            self._blanks.add(0 if before else self._at)  # blanks behind something else are few
            if not self._refill(_BLOCK_BYTES):
                return ""

    def back(self) -> None:
        """Let the next character be the last one again."""
        self._at -= 1

    def element(self, number: int) -> Any:
        """Return the record that begins here, or the error of an element that is none.

        Raises:
            EOFError: it does not end, or is not JSON.
        """
        if self.next_character():  # the first block that is not blank is held
            self.back()
        wanted = _BLOCK_BYTES
        while True:
            try:
                value, end = jsonl.decode_first(self._held, self._at)
            except json.JSONDecodeError as error:
                # it is broken, or has not been read to its end
                if len(self._held) - self._at > jsonl.MAX_LINE_BYTES or not self._refill(wanted):
                    raise EOFError(f"record {number} of the JSON array is broken or does not end: {error}") from error
                wanted *= 2
                continue
            except (ValueError, RecursionError) as error:  # a number or constant that JSON does not have
                return self._past(number, error)
            if end == len(self._held) and self._refill(wanted):  # a number may go further
                continue
            start, self._at = self._at, end
            text = self._held[start:end]
            if not text.isascii() and _NOT_UTF_8.search(text):
                return RecordError("bad_json", "the record is not UTF-8")
            record = jsonl.checked_value(value)
            repeated = None if isinstance(record, RecordError) else jsonl.repeated_key(text)
            if repeated is not None:
                return RecordError("bad_json", f"the key {repeated[:80]!r} is repeated in an object")
            return record

    def _past(self, number: int, error: Exception) -> RecordError:
        """Pass an element that cannot be decoded; its strings and brackets show where it ends.

        Raises:
            EOFError: it does not end.
        """
        depth, at, wanted = 0, self._at, _BLOCK_BYTES
        while True:
            mark = _MARKS.search(self._held, at)
            if mark is None or mark[1] == "":
                if len(self._held) - self._at > jsonl.MAX_LINE_BYTES or not self._refill(wanted):
                    raise EOFError(f"record {number} of the JSON array does not end: {error}") from error
                depth, at, wanted = 0, 0, 2 * wanted
                continue
            at, what = mark.end(), mark[0]
            if what in "[{":
                depth += 1
            elif depth == 0 and what in ",]}":
                self._at = mark.start()
                return RecordError("bad_json", f"the record is not JSON: {error}")
            elif what in "]}":
                depth -= 1

    def _skip_blanks(self) -> int:
        match = _BLANKS.match(self._held, self._at)
        return self._at if match is None else match.end()

    def _refill(self, size: int) -> bool:
        block = self._file.read(size)
        self._held = self._held[self._at :] + self._decode(block, final=not block)
        self._at = 0
        return bool(block)
