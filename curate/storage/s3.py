"""Amazon S3, and what speaks its protocol: `s3://bucket/key`.

Credentials, region and endpoint come from where Amazon's own tools find them: the environment (`AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, …), the profile in `~/.aws`, and the service of the machine or container that lends them. A profile
that signs on or assumes a role is used through boto3, where that is installed.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.util
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
)
from curate.storage.object_store import split_url as _split
from curate.storage.scheme import StoreError

_LENT = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SKIP_SIGNATURE",
    "AWS_METADATA_ENDPOINT",
)
"""Variables of the environment by which a machine or a container lends credentials, or allows to do without."""

_CHOOSING = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")

_STATIC = ("aws_access_key_id", "aws_secret_access_key")
_DYNAMIC = frozenset({"sso_session", "sso_start_url", "role_arn", "credential_process", "login_session"})


class S3Scheme(ObjectScheme):
    """The objects of S3."""

    remedy = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, to keys that may use this bucket "
        "(AWS_ENDPOINT_URL where it is not Amazon's; AWS_SKIP_SIGNATURE=true for a public bucket)"
    )

    def place(self, uri: str) -> Place:
        bucket, key = _split(uri)
        chosen = (bucket, *map(os.environ.get, _CHOOSING))  # a notebook may change them
        return Place(self.store_for(chosen, lambda: self._store(bucket)), key, uri)

    def _store(self, bucket: str) -> Any:
        options = self._options()
        endpoint = str(options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or _endpoint())
        if endpoint:
            options["endpoint"] = endpoint
        if not (options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
            options["region"] = "us-east-1"
        plain = bool(endpoint) and may_be_plain(endpoint)
        if endpoint.startswith("http://") and not plain:
            raise StoreError(f"{endpoint} is not encrypted; use https, or set CURATE_ALLOW_HTTP=1 to allow it")
        store: Any = importlib.import_module("obstore.store").S3Store
        return store(bucket, **options, client_options=client_options(allow_http=plain), retry_config=retry_options())

    def _options(self) -> dict[str, Any]:
        """Return the settings that the environment leaves out: the profile's credentials, region and endpoint.

        Raises:
            StoreError: there are no credentials.
        """
        if os.environ.get("AWS_ACCESS_KEY_ID"):
            return {}
        profile = _profile()
        options: dict[str, Any] = {
            name: profile[key] for key, name in (("region", "region"), ("endpoint_url", "endpoint")) if key in profile
        }
        if all(name in profile for name in _STATIC):
            options |= {name.removeprefix("aws_"): profile[name] for name in _STATIC}
            token = profile.get("aws_session_token")
            return {**options, "session_token": token} if token else options
        if any(os.environ.get(name) for name in _LENT):
            return options
        if importlib.util.find_spec("boto3") is not None:
            provider: Any = importlib.import_module("obstore.auth.boto3").Boto3CredentialProvider
            try:
                return {**options, "credential_provider": provider()}
            except Exception as error:  # noqa: BLE001 (of botocore, which need not be installed)
                raise StoreError(f"there are no credentials for S3 ({type(error).__name__}): {self.remedy}") from None
        if _DYNAMIC & profile.keys():
            raise StoreError(
                "the profile in ~/.aws signs on or assumes a role, which needs boto3: pip install boto3; or "
                + self.remedy
            )
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" or not _is_on_ec2():
            raise StoreError(f"there are no credentials for S3: {self.remedy}")
        return options


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""


def _profile() -> dict[str, str]:
    """Return the settings of the chosen profile in the files of Amazon's tools; empty: there is none."""
    chosen = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE") or "default"
    found: dict[str, str] = {}
    for variable, name, section in (
        ("AWS_CONFIG_FILE", "config", chosen if chosen == "default" else f"profile {chosen}"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", chosen),
    ):
        path = Path(os.environ.get(variable) or Path.home() / ".aws" / name)
        parser = configparser.RawConfigParser()
        try:
            parser.read(path)
        except (configparser.Error, UnicodeDecodeError) as error:
            raise StoreError(f"{path} cannot be read: {type(error).__name__}") from None
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found


def _is_on_ec2() -> bool:
    return metadata_headers("/latest/meta-data/").get("Server", "").startswith("EC2")
