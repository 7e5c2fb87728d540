"""Google Cloud Storage: `gs://bucket/key`.

Credentials come from where Google's own tools find them: `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud auth
application-default login`, and the service of the machine that lends them.
"""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path
from typing import Any

from curate.storage.object_store import (
    ObjectScheme,
    Place,
    client_options,
    may_be_plain,
    metadata_headers,
    retry_options,
    split_url,
)
from curate.storage.scheme import StoreError

_VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_SKIP_SIGNATURE",
)

_CHOOSING = ("STORAGE_EMULATOR_HOST", *_VARIABLES)


class GcsScheme(ObjectScheme):
    """The objects of Google Cloud Storage."""

    remedy = (
        "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file that may "
        "use this bucket (GOOGLE_SKIP_SIGNATURE=true for a public bucket)"
    )

    def place(self, uri: str) -> Place:
        bucket, key = split_url(uri)
        chosen = (bucket, *map(os.environ.get, _CHOOSING))  # a notebook may change them
        return Place(self.store_for(chosen, lambda: self._store(bucket)), key, uri)

    def _store(self, bucket: str) -> Any:
        options: dict[str, Any] = {}
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        if emulator:
            emulator = emulator if "://" in emulator else f"http://{emulator}"
            if not may_be_plain(emulator) and emulator.startswith("http://"):
                raise StoreError(f"{emulator} is not encrypted; set CURATE_ALLOW_HTTP=1 to allow it")
            key = {"gcs_base_url": emulator, "disable_oauth": True, "client_email": "", "private_key": ""}
            options = {"service_account_key": json.dumps({**key, "private_key_id": ""})}
        elif not (_has_credentials() or metadata_headers("/").get("Metadata-Flavor") == "Google"):
            raise StoreError(f"there are no credentials for Google: {self.remedy}")
        store: Any = importlib.import_module("obstore.store").GCSStore
        return store(
            bucket, **options, client_options=client_options(allow_http=bool(emulator)), retry_config=retry_options()
        )


def _has_credentials() -> bool:
    if any(os.environ.get(name) for name in _VARIABLES):
        return True
    folder = os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud"
    return (Path(folder) / "application_default_credentials.json").is_file()
