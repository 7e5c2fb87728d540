"""Files by path or URL: opens a range, writes a whole file, detects a change.

open_file, open_range   a seekable binary file, or a part of one, with its size and identity
split_member, open_member   a recording inside a tar, Parquet or Arrow file, spelt `shard.tar::name`
tar_members             where the files in a tar lie
identity                size and time of change (or tag) of a stored object, without reading it
replacing, …            local files that appear whole or not at all
RemotePath, path_of     a URL where code expects a `pathlib.Path`
upload, listing         a local file as an object; the objects below a URL (`names_below`: their names, looked up once)
Scheme                  what a store behind a URL scheme implements; `register` adds it, `lookup` finds it
is_url                  whether a place is a URL, and not a local path

A path without a scheme is local. `s3://`, `gs://`, `https://` and `hf://` are schemes of the built-in plugin, whose
stores are imported when a URL of theirs is first used. The package runs wherever files are opened, in the driver and in
workers. It knows nothing of records, manifests or audio: an error is an `OSError` with its `errno`, and the caller
decides whether it concerns one record or the whole run.
"""

from curate.storage.access import delete, identity, listing, open_file, open_range, upload
from curate.storage.atomic import (
    TEMPORARY,
    DescribedFile,
    describe_bytes,
    describe_file,
    describe_folder,
    json_checksum,
    read_json,
    replacing,
    sync_directory,
    sync_folder,
    temporary_path,
    write_atomically,
    write_json,
)
from curate.storage.file import Identity, StoredFile
from curate.storage.local import LocalFile, NotRegularError, open_local
from curate.storage.members import (
    SEPARATOR,
    MissingMemberError,
    forget_container,
    forget_containers,
    open_member,
    open_remote_container,
    split_member,
)
from curate.storage.remote_file import RemoteFile
from curate.storage.remote_path import RemotePath, find_objects, forget_objects, names_below, path_of
from curate.storage.scheme import Scheme, StoreError, is_url, lookup, register, scheme_of
from curate.storage.tar import TornArchiveError, tar_members

__all__ = [
    "SEPARATOR",
    "TEMPORARY",
    "DescribedFile",
    "Identity",
    "LocalFile",
    "MissingMemberError",
    "NotRegularError",
    "RemoteFile",
    "RemotePath",
    "Scheme",
    "StoreError",
    "StoredFile",
    "TornArchiveError",
    "delete",
    "describe_bytes",
    "describe_file",
    "describe_folder",
    "find_objects",
    "forget_container",
    "forget_containers",
    "forget_objects",
    "identity",
    "is_url",
    "json_checksum",
    "listing",
    "lookup",
    "names_below",
    "open_file",
    "open_local",
    "open_member",
    "open_range",
    "open_remote_container",
    "path_of",
    "read_json",
    "register",
    "replacing",
    "scheme_of",
    "split_member",
    "sync_directory",
    "sync_folder",
    "tar_members",
    "temporary_path",
    "upload",
    "write_atomically",
    "write_json",
]
