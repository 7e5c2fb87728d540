"""The row of a record in a published data set, where its audio is a file of its own."""

from __future__ import annotations

from curate.audio.encoding import EncodedAudio
from curate.errors import RecordError
from curate.io.published_audio import RUN_AUDIO
from curate.records import DEFAULT_FILEPATH_KEY, ID, Record

_OF_SOURCE = {DEFAULT_FILEPATH_KEY: "source_audio_filepath", "offset": "source_audio_offset"}
"""A column about the place of a record's audio → the column that keeps it in the published row."""

_CHANNEL_COLUMNS = ("channel", "channel_selector")


def published_row(record: Record, audio: EncodedAudio) -> Record:
    """Return the columns of a record for its published row, with what its audio is now.

    Where the audio came from is kept in `source_audio_filepath`, `source_audio_offset` and, of audio that became one
    channel, `source_channel`: those columns would otherwise be applied to the published audio again.

    Raises:
        RecordError: `bad_value`, the text is not a string.
    """
    text = record.get("text")
    if text is not None and not isinstance(text, str):
        raise RecordError("bad_value", f"text must be a string, not {type(text).__name__}")
    is_mono = audio.channels == 1
    row: Record = {}
    for name, value in record.items():
        if name == ID or name in _OF_SOURCE or (is_mono and name in _CHANNEL_COLUMNS):
            continue
        row[name] = value
    for name, new_name in _OF_SOURCE.items():
        value = record.get(name)
        if value is not None and not str(value).startswith(RUN_AUDIO):
            row[new_name] = value
    channel = next((record[name] for name in _CHANNEL_COLUMNS if record.get(name) is not None), None)
    if is_mono and channel is not None:
        row["source_channel"] = channel
    return {**row, "duration": audio.duration_s, "sampling_rate": audio.rate_hz, "channels": audio.channels}
