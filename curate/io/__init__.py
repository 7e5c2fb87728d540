"""Files of records: formats of manifests, and files that appear whole or not at all.

ManifestFormat           what a new format is: reader and writer in one value (`curate_formats` announces it)
FORMATS, find_format     the formats of curate itself, and which of them a file name means
read_rows, publish       read and write a manifest
with_published_audio     records whose new audio is named by paths relative to a published file
replacing                write any file atomically, as a writer must
"""

from curate.io.format import ManifestFormat, Row
from curate.io.manifest import FORMATS, count_rows, declared_columns, find_format, publish, read_rows
from curate.io.published_audio import with_published_audio
from curate.storage import replacing

__all__ = [
    "FORMATS",
    "ManifestFormat",
    "Row",
    "count_rows",
    "declared_columns",
    "find_format",
    "publish",
    "read_rows",
    "replacing",
    "with_published_audio",
]
