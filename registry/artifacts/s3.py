"""Requests to one S3 bucket, or to one of a compatible server: artifacts, and input files of jobs.

Credentials, region and endpoint come from the variables and files that every S3 client reads
(AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, ...), and so do the retries (AWS_MAX_ATTEMPTS).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from registry import extras
from registry.artifacts.store import hide_secrets
from registry.errors import Unreachable

_CHUNK = 1 << 20  # bytes


class Missing(Exception):
    """The object, or the upload, does not exist."""


class Unsupported(Exception):
    """The server does not support this request."""


class Taken(Exception):
    """A condition of the request is not met: the object exists already, or is another one."""


class Refusal(Unreachable):
    """The bucket, the credentials or the permissions are wrong; trying again does not help."""


class Requests:
    """Requests to a bucket, and errors that say what to do."""

    def __init__(self, bucket: str, what: str, setting: str, rights: str) -> None:
        """For messages: `what` is in the bucket, `setting` is where a person gave its place, and
        `rights` are what must be allowed there."""
        self.bucket = bucket
        self._what, self._setting, self._rights = what, setting, rights

    def call(self, operation: str, *needed: str, **given: Any) -> Any:
        """One S3 request; `needed` are keys of the response.

        Raises:
            Missing, Taken, Unsupported, Unreachable.
        """
        answer = self._ask(self._client.call_s3, operation, Bucket=self.bucket, **given)
        if not answer.keys() >= set(needed):
            raise self._unusable("the server there is not S3")
        return answer

    @contextmanager
    def reading(self, answer: Any) -> Iterator[Iterator[bytes]]:
        """The content in the answer to `get_object`, in pieces."""
        from fsspec.asyn import sync

        loop, body = self._client.loop, answer["Body"]

        def pieces() -> Iterator[bytes]:
            while chunk := self._ask(sync, loop, body.read, _CHUNK):
                yield chunk

        try:
            yield pieces()
        finally:
            loop.call_soon_threadsafe(body.close)

    def listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Every object whose key begins with `prefix`, in the order of the keys: `Key`, `Size`,
        `ETag` and `LastModified` of each."""
        more: dict[str, str] = {}
        while True:
            page = self.call("list_objects_v2", Prefix=prefix, **more)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    @cached_property
    def _client(self) -> Any:
        s3fs = extras.load("s3fs", "s3", "A bucket")
        client = s3fs.S3FileSystem(
            # The environment may name another server now, and other processes write to the bucket.
            skip_instance_cache=True,
            use_listings_cache=False,
            # We compare files with their SHA-256 ourselves, and raise our own error.
            config_kwargs={"response_checksum_validation": "when_required", "read_timeout": 60},
        )
        client.retries = 1  # beyond those of botocore, which the user can set
        return client

    def _ask(self, function: Callable[..., Any], *args: Any, **given: Any) -> Any:
        try:
            return function(*args, **given)
        # s3fs, aiobotocore, botocore and aiohttp raise errors without a common base.
        except Exception as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> Exception:
        from botocore.exceptions import NoCredentialsError, PartialCredentialsError

        response = getattr(error.__cause__, "response", None) or {}
        code = response.get("Error", {}).get("Code", "")
        if code in {"NoSuchKey", "NoSuchUpload", "404"}:
            return Missing()
        if code in {"PreconditionFailed", "ConditionalRequestConflict", "412"}:
            return Taken()
        if code == "NotImplemented":
            return Unsupported()
        if code == "NoSuchBucket":
            return Refusal(
                f"{self._what} does not exist: there is no bucket {self.bucket!r}. Create it, or "
                f"correct {self._setting}, or AWS_ENDPOINT_URL if it is on another server."
            )
        if isinstance(error, PermissionError):
            return Refusal(
                f"{self._what} refuses access ({code}). Check {self._setting}, AWS_ENDPOINT_URL, "
                "the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or of "
                f"AWS_PROFILE, and whether they may {self._rights} there."
            )
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return Refusal(
                f"{self._what} needs credentials ({error}). Set AWS_ACCESS_KEY_ID and "
                f"AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; or let {self._setting} name a folder."
            )
        return self._unusable(code or hide_secrets(str(error)) or type(error).__name__)

    def _unusable(self, reason: str) -> Unreachable:
        return Unreachable(
            f"{self._what} cannot be used ({reason}). Check {self._setting}, AWS_ENDPOINT_URL, "
            "AWS_DEFAULT_REGION and the network, and try again."
        )
