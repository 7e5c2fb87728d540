"""Files of records: formats of manifests, and files that appear whole or not at all.

ManifestFormat           what a new format is: reader and writer in one value (`curate_formats` announces it)
FORMATS, find_format     the formats of curate itself, and which of them a file name means
read_rows, publish       read (by content) and write a manifest
WriteOptions             how it is written: compression, groups of rows
check_parquet            refuse a Parquet file whose schema no record can have
FileFormat, judge_content what a file holds: form, compression, encoding, or something else than records
with_published_audio     records whose new audio is named by paths relative to a published file
replacing                write any file atomically, as a writer must
"""

from curate.io.by_content import can_grow
from curate.io.content import FileFormat, judge_content
from curate.io.format import ManifestFormat, Row, WriteOptions
from curate.io.manifest import FORMATS, count_rows, declared_columns, find_format, publish, publish_together, read_rows
from curate.io.parquet_schema import audio_columns, check_parquet, parquet_schema
from curate.io.published_audio import with_published_audio
from curate.storage import replacing

__all__ = [
    "FORMATS",
    "FileFormat",
    "ManifestFormat",
    "Row",
    "WriteOptions",
    "audio_columns",
    "can_grow",
    "check_parquet",
    "count_rows",
    "declared_columns",
    "find_format",
    "judge_content",
    "parquet_schema",
    "publish",
    "publish_together",
    "read_rows",
    "replacing",
    "with_published_audio",
]
