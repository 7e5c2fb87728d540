"""Google Cloud Storage: `gs://bucket/key`.

Credentials come from where Google's own tools find them: `GOOGLE_APPLICATION_CREDENTIALS`, the login of `gcloud auth
application-default login`, and the service of the machine that lends them.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from curate.storage.object_store import (
    ObjectScheme,
    Place,
   
    client_options,
    may_be_plain,
    retry_options,
    split_url,
)

from curate.storage.scheme import StoreError


class GcsScheme(ObjectScheme):
    """The objects of Google Cloud Storage."""

    remedy = (
        "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file that may "
        "use this bucket (GOOGLE_SKIP_SIGNATURE=true for a public bucket)"
    )

    def place(self, uri: str) -> Place:
        bucket, key = split_url(uri)
        return Place(self.store_for(bucket, lambda: self._store(bucket)), key, uri)

    def _store(self, bucket: str) -> Any:
        options: dict[str, Any] = {}
        emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
        if emulator:
            emulator = emulator if "://" in emulator else f"http://{emulator}"
            if not may_be_plain(emulator) and emulator.startswith("http://"):
                raise StoreError(f"{emulator} is not encrypted; set CURATE_ALLOW_HTTP=1 to allow it")
            options = {"base_url": emulator, "skip_signature": True}
        store: Any = importlib.import_module("obstore.store").GCSStore
        return store(
            bucket, **options, client_options=client_options(allow_http=bool(emulator)), retry_config=retry_options()
        )
