"""The file of a commit, `commits/<unit>.json`: one line of JSON that ends with a checksum of itself.

The checksum is the SHA-256 of the line as it would be without it, byte for byte, so that checking it needs no second
encoding. Whatever changes a commit after it was written (a damaged disk, an editor, a partial copy) is found when it is
read and reported with the file's name; a stage is never blamed for it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from curate.engine.durability.commit import Commit, CommitStats, UnitFile
from curate.engine.durability.positions import Ranges
from curate.errors import InfrastructureError

_SEAL = re.compile(rb', "checksum": "([0-9a-f]{64})"\}\n\Z')


def seal(described: Mapping[str, Any]) -> bytes:
    """Return the content of a commit's file: the description as JSON, with its checksum."""
    content = json.dumps(described).encode()
    checksum = hashlib.sha256(content).hexdigest()
    return content[:-1] + f', "checksum": "{checksum}"}}\n'.encode()


def unseal(content: bytes) -> dict[str, Any]:
    """Return the description that `seal` has encoded.

    Raises:
        ValueError: the content is not what `seal` has returned.
    """
    found = _SEAL.search(content)
    if found is None:
        raise ValueError("it does not end with a checksum")
    described = content[: found.start()] + b"}"
    checksum = hashlib.sha256(described).hexdigest()
    if checksum != found[1].decode():
        raise ValueError(f"its content has the checksum {checksum}, and its checksum is {found[1].decode()}")
    return cast("dict[str, Any]", json.loads(described))


def encode_commit(commit: Commit, accounts: Mapping[int, CommitStats]) -> bytes:
    """Return the content of a commit's file.

    Args:
        commit: the commit.
        accounts: the accounts of the roots whose outcome a retry may replace, by position.
    """
    return seal(
        {
            "unit": commit.unit,
            "phase": commit.phase,
            "fingerprint": commit.fingerprint,
            "rows": commit.rows,
            "ranges": list(commit.ranges),
            "account": commit.account.to_dict(),
            "apart": {str(position): account.to_dict() for position, account in accounts.items()},
            "busy_s": commit.busy_s,
            "measures": commit.measures,
            "files": [attrs.asdict(file) for file in commit.files],
        }
    )


def read_commit(path: Path) -> Commit:
    """Return the commit of a file, without the accounts of single roots.

    Raises:
        InfrastructureError: the file is damaged or cannot be read, naming it.
    """
    described = _described(path)
    try:
        if described["unit"] != path.stem:
            raise ValueError(f"it is the commit of the unit {described['unit']}")
        return Commit(
            unit=described["unit"],
            phase=described["phase"],
            number=number_of(described["unit"]),
            fingerprint=described["fingerprint"],
            ranges=Ranges(described["ranges"]),
            rows=described["rows"],
            account=CommitStats.from_dict(described["account"]),
            busy_s=described["busy_s"],
            measures=described["measures"],
            files=tuple(UnitFile(**file) for file in described["files"]),
            individually_tracked=tuple(map(int, described["apart"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def read_accounts(path: Path) -> dict[int, CommitStats]:
    """Return the accounts of the roots whose outcome a retry may replace, by position.

    Raises:
        InfrastructureError: the file is damaged or cannot be read, naming it.
    """
    try:
        return {int(position): CommitStats.from_dict(each) for position, each in _described(path)["apart"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def number_of(unit: str) -> int:
    """Return the number of a unit, which counts over all phases: 7 for `p2-000007`."""
    return int(unit.rpartition("-")[2])


def _described(path: Path) -> dict[str, Any]:
    try:
        return unseal(path.read_bytes())
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InfrastructureError:
    return InfrastructureError(
        f"the commit {path} is damaged ({error}): restore the file from a backup, or use a new --run-dir"
    )
