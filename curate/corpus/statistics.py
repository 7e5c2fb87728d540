"""The statistics of a corpus: hours, words, vocabulary, rates, durations and duplicates, as a whole and by columns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from curate.corpus.key_table import KeyTable
from curate.io.rows import is_finite_number
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = rf"[{_UNSPACED}]\p{{M}}*|[\p{{L}}\p{{M}}\p{{N}}'’]+"
"""A word: letters and digits up to a blank or a mark; each character in scripts without blanks between words."""

HISTOGRAM_BINS = 40
_TYPES = {
    "grp": "VARCHAR", "duration": "DOUBLE", "text": "VARCHAR", "audio": "VARCHAR", "speaker": "VARCHAR",
}  # fmt: skip


@attrs.frozen
class GroupStatistics:
    """The statistics of the records with certain values in the columns of `by`; of all of them without.

    Args:
        group: column → value.
        utterances: the number of records.
        hours: of audio.
        without_duration: records without a usable `duration`.
        without_text: records whose text is null or has no word.
        speakers: the number of values of the column of speakers.
        words: in all texts; each character in scripts without blanks between words.
        vocabulary: the number of different words, case aside.
        characters: letters and digits in all texts.
        words_per_s: over the records with text and duration; None: there are none.
        characters_per_s: the same.
        duration_s: `min`, `p05`, `median`, `mean`, `p95` and `max`, in seconds; empty: no durations.
        repeated_texts: records whose words are those of another record of the corpus.
        repeated_audio: records with the file, offset and duration of another record of the corpus.
    """

    group: Mapping[str, str | None]
    utterances: int
    hours: float
    without_duration: int
    without_text: int
    speakers: int
    words: int
    vocabulary: int
    characters: int
    words_per_s: float | None
    characters_per_s: float | None
    duration_s: Mapping[str, float]
    repeated_texts: int
    repeated_audio: int


@attrs.frozen
class CorpusStatistics:
    """The statistics of a corpus.

    Args:
        by: the columns of the groups.
        total: of all records.
        groups: of each group, the one with most hours first.
        group_count: the number of groups, also of those that were cut off.
        histogram: (from, to, records) for durations, in seconds; equal widths, the last bin without an end.
    """

    by: Sequence[str]
    total: GroupStatistics
    groups: Sequence[GroupStatistics]
    group_count: int
    histogram: Sequence[tuple[float, float, int]]

    def to_dict(self) -> dict[str, Any]:
        """Return the statistics as JSON-ready data."""
        return attrs.asdict(self)


def corpus_statistics(
    records: Iterable[Record],
    *,
    by: Sequence[str] = (),
    limit: int | None = None,
    text_key: str = "text",
    filepath_key: str = DEFAULT_FILEPATH_KEY,
    speaker_key: str = "speaker",
) -> CorpusStatistics:
    """Return the statistics of records, in memory that does not grow with their number.

    Args:
        records: read once.
        by: the columns whose values make the groups.
        limit: the number of groups, those with most hours; None: all.
        text_key: the column with the text.
        filepath_key: the column with the path of the audio.
        speaker_key: the column with the speaker.

    Raises:
        InfrastructureError: DuckDB is not installed.
    """

    def key_row(record: Record) -> Sequence[Any]:
        duration: Any = record.get("duration")
        text, path = record.get(text_key), record.get(filepath_key)
        audio = None if path is None else f"{path} {record.get('offset')} {duration}"
        return (
            json.dumps([_shown(record.get(name)) for name in by]) if by else None,
            float(duration) if is_finite_number(duration) and duration >= 0 else None,
            text if isinstance(text, str) else None,
            audio,
            _shown(record.get(speaker_key)),
        )

    with tempfile.TemporaryDirectory(prefix="curate-") as scratch, closing(KeyTable(Path(scratch), _TYPES)) as keys:
        keys.fill(({ID: "", **record} for record in records), key_row)
        _add_words(keys)
        (total,) = _groups(keys, (), None)
        groups = _groups(keys, by, limit) if by else []
        (count,) = keys.connection.execute("SELECT count(DISTINCT grp) FROM measured").fetchone()
        return CorpusStatistics(tuple(by), total, groups, count, _histogram(keys, total.duration_s))


def _shown(value: object) -> str | None:
    """Return a value of a column as a string."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _add_words(keys: KeyTable) -> None:
    """Make the view `measured`: the keys, and of each text its number of words and characters and a digest."""
    run = keys.connection.execute
    words = f"regexp_extract_all(lower(text), '{_WORD.replace(chr(39), chr(39) * 2)}')"
    run(
        f"COPY (SELECT position, grp, duration, speaker, coalesce(len(words), 0) AS words, joined, "
        "length(replace(joined, ' ', '')) AS characters, "
        "CASE WHEN joined <> '' THEN md5_number(joined) END AS digest, md5_number(audio) AS audio "
        f"FROM (SELECT *, array_to_string(words, ' ') AS joined FROM (SELECT *, {words} AS words FROM keys))) "
        f"TO '{keys.scratch}/measured.parquet' (ROW_GROUP_SIZE 16384)"
    )
    run(f"CREATE VIEW measured AS SELECT * FROM read_parquet('{keys.scratch}/measured.parquet')")
    for name in ("digest", "audio"):
        run(
            f"CREATE TABLE repeated_{name} AS SELECT {name} FROM measured WHERE {name} IS NOT NULL GROUP BY {name} "
            "HAVING count(*) > 1"
        )


_QUANTILES = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}


def _groups(keys: KeyTable, by: Sequence[str], limit: int | None) -> list[GroupStatistics]:
    group = "grp" if by else "NULL::VARCHAR"
    query = f"""
        WITH counted AS (SELECT {group} AS grp, count(*) AS utterances, coalesce(sum(duration), 0) AS seconds,
            count(*) - count(duration) AS without_duration, count(*) FILTER (words = 0) AS without_text,
            count(DISTINCT speaker) AS speakers, sum(words)::BIGINT AS words, sum(characters)::BIGINT AS characters,
            sum(duration) FILTER (words > 0 AND duration > 0) AS spoken_s,
            sum(words) FILTER (duration > 0)::BIGINT AS spoken_words,
            sum(characters) FILTER (duration > 0)::BIGINT AS spoken_characters,
            quantile_disc(duration, {list(_QUANTILES.values())}) AS quantiles, avg(duration) AS mean,
            count(*) FILTER (digest IN (SELECT digest FROM repeated_digest)) AS repeated_texts,
            count(*) FILTER (audio IN (SELECT audio FROM repeated_audio)) AS repeated_audio
            FROM measured GROUP BY 1),
        spelt AS (SELECT grp, count(DISTINCT word) AS vocabulary FROM (SELECT {group} AS grp,
            unnest(string_split(joined, ' ')) AS word FROM measured WHERE words > 0) GROUP BY 1)
        SELECT counted.grp, utterances, seconds, without_duration, without_text, speakers, words,
            coalesce(vocabulary, 0), characters, spoken_words / spoken_s, spoken_characters / spoken_s, quantiles, mean,
            repeated_texts, repeated_audio
        FROM counted LEFT JOIN spelt ON counted.grp IS NOT DISTINCT FROM spelt.grp
        ORDER BY seconds DESC, utterances DESC, counted.grp LIMIT {"ALL" if limit is None else limit}"""
    return [_statistics(row, by) for row in keys.rows(query)] or [_statistics(_NOTHING, by)]


_NOTHING = (None, 0, 0, 0, 0, 0, 0, 0, 0, None, None, None, None, 0, 0)


def _statistics(row: Sequence[Any], by: Sequence[str]) -> GroupStatistics:
    grp, utterances, seconds, no_duration, no_text, speakers, words, vocabulary, characters, *rest = row
    words_per_s, characters_per_s, quantiles, mean, texts, audio = rest
    durations = {} if not quantiles else {**dict(zip(_QUANTILES, quantiles, strict=True)), "mean": mean}
    return GroupStatistics(
        group=dict(zip(by, json.loads(grp), strict=True)) if by and grp else {},
        utterances=utterances,
        hours=round(seconds / 3600, 6),
        without_duration=no_duration,
        without_text=no_text,
        speakers=speakers,
        words=words or 0,
        vocabulary=vocabulary,
        characters=characters or 0,
        words_per_s=_rounded(words_per_s),
        characters_per_s=_rounded(characters_per_s),
        duration_s={name: round(value, 3) for name, value in durations.items() if value is not None},
        repeated_texts=texts,
        repeated_audio=audio,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _histogram(keys: KeyTable, duration_s: Mapping[str, float]) -> list[tuple[float, float, int]]:
    """Return bins of equal width up to the 95th percentile and a half more; the last one holds all longer ones."""
    if not duration_s:
        return []
    width = max(0.01, round(1.5 * duration_s["p95"] / HISTOGRAM_BINS, 2))
    query = (
        f"SELECT least(floor(duration / {width}), {HISTOGRAM_BINS - 1})::INTEGER AS bin, count(*) FROM measured "
        "WHERE duration IS NOT NULL GROUP BY bin ORDER BY bin"
    )
    counts = dict(keys.rows(query))
    return [(round(bin * width, 2), round((bin + 1) * width, 2), counts.get(bin, 0)) for bin in range(max(counts) + 1)]
