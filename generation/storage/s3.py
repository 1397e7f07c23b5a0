"""Images in a bucket of S3, or of any server that speaks its protocol."""

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

#: A worker waits no longer for one answer of the bucket, in seconds.
_PATIENCE: Final = {"connect_timeout": 3, "read_timeout": 20}
_CONFIG: Final = Config(signature_version="s3v4", retries={"total_max_attempts": 2, "mode": "standard"}, **_PATIENCE)
_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})
#: Codes of a 403 of S3: of HEAD, which has no body, and of GET.
_DENIED: Final = frozenset({"403", "AccessDenied"})
#: Seconds for which the result of a look at the permissions is used.
_LEARNED_LASTS: Final = 300.0
#: Seconds that temporary credentials last at the least where nothing says when they end.
_UNKNOWN_END: Final = 3600
#: Stands for a key while the address of the bucket is made.
_ANY_KEY: Final = "key"


class Signing(NamedTuple):
    """The credentials that addresses are signed with now, and when they end, in seconds since 1970, if they do."""

    credentials: ReadOnlyCredentials
    ends: int | None


class BucketAddress(NamedTuple):
    """Where a bucket is reached: what a key is put behind, and the region that signatures name."""

    base: str
    region: str

    @property
    def origin(self) -> str:
        """Scheme and host, as a policy of content names them."""
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"


@functools.cache
def bucket_address(bucket: str, region: str | None, endpoint: str | None) -> BucketAddress:
    """Return where the SDK reaches a bucket. The host and the style depend on the region's partition, the bucket's name
    (one with dots has no certificate as a host), the endpoint, and what the environment says of dual-stack and FIPS.
    Raises ``ValueError`` where there can be no such bucket."""

    def found(request: AWSRequest, region_name: str, **_: Any) -> None:
        parts = urlsplit(request.url)
        base = urlunsplit((parts.scheme, parts.netloc, parts.path.removesuffix(_ANY_KEY), "", ""))
        raise _Found(BucketAddress(base, region_name))

    # Nothing is sent, so no account is needed. Presigning would name the global host, which redirects for a new bucket.
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
    """What the client of S3 raises, as what a disk would raise; without the text, in which addresses stand."""
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
    """Signs as of a given moment, so that the same address is made again until the next one."""

    def __init__(self, *arguments: Any, at: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._at = time.strftime(SIGV4_TIMESTAMP, time.gmtime(at))

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at
        super()._modify_request_before_signing(request)


class BucketStorage(S3Storage):
    """The bucket, whose faults are ``OSError`` as those of a disk, and whose addresses are signed.

    Without the permission to list the bucket, S3 answers 403 where there is no such key. So a 403 is looked into: where
    the process can read what it has just written to that folder, it means that the key is not there.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(client_config=_CONFIG, file_overwrite=True, default_acl=None, **options)
        #: Until when (of the monotonic clock) a 403 is taken for a missing key, by folder.
        self._readable_until: dict[str, float] = {}
        self._cooldown = Cooldown()

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        return ContentFile(self._tell_missing(name, self._read), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _as_os_errors():
            return str(super()._save(name, content))

    def exists(self, name: str) -> bool:
        """Whether there is such a key. Raises ``OSError`` where that cannot be told."""
        try:
            return bool(self._tell_missing(name, super().exists))
        except FileNotFoundError:
            return False

    def delete(self, name: str) -> None:
        with _as_os_errors():
            super().delete(name)

    def get_modified_time(self, name: str) -> datetime:
        found: datetime = self._tell_missing(name, super().get_modified_time)
        return found

    def files(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below the folder with the time at which it was written."""
        with _as_os_errors():
            for one in self.bucket.objects.filter(Prefix=f"{folder}/"):
                yield one.key, one.last_modified

    def path_for_proxy(self, key: str) -> str:
        """Return an empty path: a proxy reads no bucket."""
        return ""

    def signing(self) -> Signing:
        """Return the credentials of this moment, renewed where they are about to end. Raises ``OSError``; then the next
        look is a while later, since each may take seconds and a page of a list has forty addresses."""
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
            # A token in the environment says by itself nothing of its end; tools of AWS export it beside.
            ends = parse_datetime(os.environ.get("AWS_CREDENTIAL_EXPIRATION", ""))
            return Signing(frozen, _in_an_hour() if ends is None else int(ends.timestamp()))
        return Signing(frozen, None if ends is None else int(ends.timestamp()))

    def signed_address(self, key: str, *, at: int, expires: int, credentials: ReadOnlyCredentials) -> str:
        """Where the bytes are fetched from without an account, from ``at`` until ``expires``."""
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
        """Ask the bucket about a key. Raises ``FileNotFoundError`` where it is not there, else ``OSError``."""
        with _as_os_errors():
            try:
                return ask(name)
            except ClientError as error:
                if _code(error) not in _DENIED or not self._can_read(name.rpartition("/")[0].partition("/")[0]):
                    raise
        raise FileNotFoundError("the bucket has no such key")

    def _can_read(self, folder: str) -> bool:
        """Whether a file that is written to this folder can be read again."""
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
            with suppress(ClientError):  # without the permission to delete, an empty one stays
                super().delete(key)
        self._readable_until[folder] = time.monotonic() + _LEARNED_LASTS
        return True


def _in_an_hour() -> int:
    """The end of the hour after this one: the same for as long as an address is the same."""
    return int(time.time()) // 3600 * 3600 + 2 * _UNKNOWN_END
