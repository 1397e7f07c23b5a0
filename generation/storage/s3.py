"""Images in a bucket of S3 or of a compatible server."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import boto3
from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile, File
from django.utils.dateparse import parse_datetime
from storages.backends.s3 import S3Storage

from generation.caching import Cooldown

#: Seconds that a worker waits for one answer of the bucket.
_PATIENCE: Final = {"connect_timeout": 3, "read_timeout": 20}
_CONFIG: Final = Config(signature_version="s3v4", retries={"total_max_attempts": 2, "mode": "standard"}, **_PATIENCE)
_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
#: Codes of a 403 of S3: of HEAD, without a body, and of GET.
_DENIED: Final = frozenset({"403", "AccessDenied"})
#: Seconds for which a check of the permissions is cached.
_LEARNED_LASTS: Final = 300.0
#: Seconds that temporary credentials without an expiry last at least.
_UNKNOWN_END: Final = 3600
#: Placeholder for a key while the address of the bucket is computed.
_ANY_KEY: Final = "key"


class Signing(NamedTuple):
    """The credentials that sign addresses, and their expiry in seconds since 1970, ``None`` if they do not expire."""

    credentials: ReadOnlyCredentials
    ends: int | None


class BucketAddress(NamedTuple):
    """The address of a bucket: the prefix of its keys, and the region for signatures."""

    base: str
    region: str

    @property
    def origin(self) -> str:
        """Scheme and host, for a content security policy."""
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"


@functools.cache
def bucket_address(bucket: str, region: str | None, endpoint: str | None) -> BucketAddress:
    """Return the address of a bucket as the SDK uses it. Host and style depend on the region's partition, the bucket's
    name (one with dots has no certificate as a host), the endpoint, and the environment's settings of dual-stack and
    FIPS. Raises ``ValueError`` for an impossible bucket."""

    def found(request: AWSRequest, region_name: str, **_: Any) -> None:
        parts = urlsplit(request.url)
        base = urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix(_ANY_KEY), "", ""))
        raise _Found(BucketAddress(base, region_name))

    # Nothing is sent, so no account is needed. Presigning would use the global host, which redirects for a new bucket.
    unused = {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
    try:
        client: Any = boto3.client("s3", region_name=region, endpoint_url=endpoint, config=_CONFIG, **unused)
        client.meta.events.register("before-sign.s3.GetObject", found)
        client.get_object(Bucket=bucket, Key=_ANY_KEY)
    except _Found as answer:
        return answer.address
    except BotoCoreError as error:
        raise ValueError(str(error).replace("\n", " ")) from error
    raise AssertionError("the SDK has signed nothing")


class _Found(Exception):  # noqa: N818  an answer, not an error
    def __init__(self, address: BucketAddress) -> None:
        super().__init__()
        self.address = address


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Turn errors of the S3 client into ``OSError``, without their text, which contains addresses."""
    try:
        yield
    except ClientError as error:
        code = _code(error)
        raise (FileNotFoundError if code in _GONE else OSError)(f"the bucket answered {code}") from error
    except BotoCoreError as error:
        raise OSError(f"the bucket is not reachable: {type(error).__name__}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


class _SignedAt(S3SigV4QueryAuth):
    """Signs as of a given moment, so that an address stays the same until the next one."""

    def __init__(self, *arguments: Any, at: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._at = time.strftime(SIGV4_TIMESTAMP, time.gmtime(at))

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at
        super()._modify_request_before_signing(request)


class BucketStorage(S3Storage):
    """A bucket with signed addresses, whose errors are ``OSError`` as those of a disk.

    Without the permission to list the bucket, S3 answers 403 for a missing key. So after a 403 the process writes and
    reads a file in the same folder: if that works, the 403 meant that the key is missing.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(client_config=_CONFIG, file_overwrite=True, default_acl=None, **options)
        #: Until when (monotonic clock) a 403 counts as a missing key, by folder.
        self._readable_until: dict[str, float] = {}
        self._cooldown = Cooldown()

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        return ContentFile(self._tell_missing(name, self._read), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _as_os_errors():
            return str(super()._save(name, content))

    def exists(self, name: str) -> bool:
        """Return whether the key exists. Raises ``OSError`` if that is unknown."""
        try:
            return bool(self._tell_missing(name, super().exists))
        except FileNotFoundError:
            return False

    def delete(self, name: str) -> None:
        with _as_os_errors():
            super().delete(name)

    def size(self, name: str) -> int:
        """Return the bytes of the key. Raises ``OSError``."""
        return int(self._tell_missing(name, super().size))

    def get_modified_time(self, name: str) -> datetime:
        found: datetime = self._tell_missing(name, super().get_modified_time)
        return found

    def files(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Return every key below the folder with the time at which it was written. Raises ``OSError``."""
        with _as_os_errors():
            for one in self.bucket.objects.filter(Prefix=f"{folder}/"):
                yield one.key, one.last_modified

    def path_for_proxy(self, key: str) -> str:
        """Return an empty path: a proxy reads no bucket."""
        return ""

    def signing(self) -> Signing:
        """Return the current credentials, renewed before they expire. Raises ``OSError``; then a cooldown
        follows, since a request may take seconds and a page of a list has forty addresses."""
        if self._cooldown.is_active():
            raise OSError("there were no credentials for the bucket a moment ago")
        try:
            with _as_os_errors():
                found = self._session().get_credentials()
                if found is None:
                    raise OSError("there are no credentials for the bucket")
                frozen = found.get_frozen_credentials()
        except OSError:
            self._cooldown.start()
            raise
        ends = getattr(found, "_expiry_time", None)
        if ends is None and frozen.token:
            # A token in the environment has no expiry; tools of AWS export it in a variable of its own.
            ends = parse_datetime(os.environ.get("AWS_CREDENTIAL_EXPIRATION", ""))
            return Signing(frozen, _in_an_hour() if ends is None else int(ends.timestamp()))
        return Signing(frozen, None if ends is None else int(ends.timestamp()))

    def signed_address(self, key: str, *, at: int, expires: int, credentials: ReadOnlyCredentials) -> str:
        """Return an address that works without an account from ``at`` until ``expires``."""
        address = bucket_address(self.bucket_name, self.region_name, self.endpoint_url)
        request = AWSRequest("GET", f"{address.base}{key}")
        _SignedAt(credentials, "s3", address.region, expires=expires - at, at=at).add_auth(request)
        return str(request.url)

    def _session(self) -> Any:
        create: Callable[[], Any] = self._create_session
        if not hasattr(self, "_kept_session"):
            self._kept_session = create()
        return self._kept_session

    def _read(self, name: str) -> bytes:
        answer = self.connection.meta.client.get_object(Bucket=self.bucket_name, Key=name)
        return bytes(answer["Body"].read())

    def _tell_missing(self, name: str, ask: Callable[[str], Any]) -> Any:
        """Ask the bucket about a key. Raises ``FileNotFoundError`` if it is missing, else ``OSError``."""
        with _as_os_errors():
            try:
                return ask(name)
            except ClientError as error:
                if _code(error) not in _DENIED or not self._can_read(name.rpartition("/")[0].partition("/")[0]):
                    raise
        raise FileNotFoundError("the bucket has no such key")

    def _can_read(self, folder: str) -> bool:
        """Return whether a file that is written to this folder can be read again."""
        if time.monotonic() < self._readable_until.get(folder, float("-inf")):
            return True
        key = f"{folder}/.probe-{secrets.token_hex(8)}"
        self.connection.meta.client.put_object(Bucket=self.bucket_name, Key=key, Body=b"")
        try:
            self._read(key)
        except ClientError as error:
            if _code(error) in _DENIED:
                return False
            raise
        finally:
            with suppress(ClientError):  # without the permission to delete, an empty file stays
                super().delete(key)
        self._readable_until[folder] = time.monotonic() + _LEARNED_LASTS
        return True


def _in_an_hour() -> int:
    """Return the end of the next hour, which is constant while an address is."""
    return int(time.time()) // 3600 * 3600 + 2 * _UNKNOWN_END
