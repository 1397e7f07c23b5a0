"""Pictures in a bucket of S3, or of any server that speaks its protocol."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from botocore.auth import SIGV4_TIMESTAMP, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.core.files.base import ContentFile, File
from storages.backends.s3 import S3Storage

#: A worker waits no longer for one answer of the bucket, in seconds.
_PATIENCE: Final = {"connect_timeout": 3, "read_timeout": 20}
_GONE: Final = frozenset({"404", "NoSuchKey", "NotFound"})


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """What the client of S3 raises, as what a disk would raise; without the text, in which addresses stand."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise (FileNotFoundError if code in _GONE else OSError)(f"the bucket answered {code}") from error
    except BotoCoreError as error:
        raise OSError(f"the bucket is not reachable: {type(error).__name__}") from error


class _SignedAt(S3SigV4QueryAuth):
    """Signs as of a given moment, so that the same address is made again until the next one."""

    def __init__(self, *arguments: Any, at: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._at = time.strftime(SIGV4_TIMESTAMP, time.gmtime(at))

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._at
        super()._modify_request_before_signing(request)


class BucketStorage(S3Storage):
    """The bucket, whose faults are ``OSError`` as those of a disk, and whose addresses are signed."""

    def __init__(self, **options: Any) -> None:
        retries = {"total_max_attempts": 2, "mode": "standard"}
        config = Config(signature_version="s3v4", retries=retries, **_PATIENCE)
        super().__init__(client_config=config, file_overwrite=True, default_acl=None, **options)

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        with _as_os_errors():
            answer = self.connection.meta.client.get_object(Bucket=self.bucket_name, Key=name)
            return ContentFile(answer["Body"].read(), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        with _as_os_errors():
            return str(super()._save(name, content))

    def exists(self, name: str) -> bool:
        with _as_os_errors():
            return bool(super().exists(name))

    def delete(self, name: str) -> None:
        with _as_os_errors():
            super().delete(name)

    def get_modified_time(self, name: str) -> datetime:
        with _as_os_errors():
            found: datetime = super().get_modified_time(name)
            return found

    def files(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below the folder with the time at which it was written."""
        with _as_os_errors():
            for one in self.bucket.objects.filter(Prefix=f"{folder}/"):
                yield one.key, one.last_modified

    def signed_address(self, key: str, *, at: int, lasting: int) -> str:
        """Where the bytes are fetched from without an account, until so many seconds after ``at``."""
        client = self.connection.meta.client
        if self.endpoint_url:
            address = f"{self.endpoint_url.rstrip('/')}/{self.bucket_name}/{key}"
        else:
            address = f"https://{self.bucket_name}.s3.{client.meta.region_name}.amazonaws.com/{key}"
        credentials = self._session().get_credentials().get_frozen_credentials()
        request = AWSRequest("GET", address)
        _SignedAt(credentials, "s3", client.meta.region_name, expires=lasting, at=at).add_auth(request)
        return str(request.url)

    def _session(self) -> Any:
        create: Callable[[], Any] = self._create_session
        if not hasattr(self, "_kept_session"):
            self._kept_session = create()
        return self._kept_session
