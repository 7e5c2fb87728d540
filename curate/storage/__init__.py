"""Files by path or URL: opens a range, writes a whole file, detects a change.

open_file, open_range   a seekable binary file, or a part of one, with its size and identity
split_member, open_member   a recording inside a tar, Parquet or Arrow file, spelt `shard.tar::name`
tar_members             where the files in a tar lie
identity                size and time of change (or tag) of a stored object, without reading it
replacing, …            local files that appear whole or not at all
Scheme                  what a store behind a URL scheme implements; `register` adds it, `lookup` finds it

curate itself reads and writes local paths only; a path without a scheme is local. The package runs wherever files are
opened, in the driver and in workers, and starts no thread. It knows nothing of records, manifests or audio: an error is
an `OSError` with its `errno`, and the caller decides whether it concerns one record or the whole run.
"""

from curate.storage.access import identity, open_file, open_range
from curate.storage.atomic import (
    TEMPORARY,
    describe_file,
    describe_folder,
    json_checksum,
    read_json,
    replacing,
    sync_directory,
    sync_folder,
    write_atomically,
    write_json,
)
from curate.storage.file import Identity, StoredFile
from curate.storage.local import LocalFile, NotRegularError, open_local
from curate.storage.members import SEPARATOR, MissingMemberError, open_member, split_member
from curate.storage.scheme import Scheme, lookup, register, scheme_of
from curate.storage.tar import TornArchiveError, tar_members

__all__ = [
    "SEPARATOR",
    "TEMPORARY",
    "Identity",
    "LocalFile",
    "MissingMemberError",
    "NotRegularError",
    "Scheme",
    "StoredFile",
    "TornArchiveError",
    "describe_file",
    "describe_folder",
    "identity",
    "json_checksum",
    "lookup",
    "open_file",
    "open_local",
    "open_member",
    "open_range",
    "read_json",
    "register",
    "replacing",
    "scheme_of",
    "split_member",
    "sync_directory",
    "sync_folder",
    "tar_members",
    "write_atomically",
    "write_json",
]
