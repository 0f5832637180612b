"""Requests to remote stores: temporary failures are retried, final ones raise clear errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError, RunError
from shiftproof.io.border import describe_error
from shiftproof.io.urls import redact_urls
from shiftproof.lazy import import_extra

Response = TypeVar("Response")

ATTEMPTS = 3

PAUSE = 0.5
"""Seconds before the second attempt, doubled before each further one: 1.5 s in total, in addition to the
retries of fsspec's file systems (s3fs makes each request up to five times)."""

_PACKAGES = {
    "abfs": "adlfs",
    "abfss": "adlfs",
    "adl": "adlfs",
    "az": "adlfs",
    "ftp": "fsspec",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hdfs": "pyarrow",
    "hf": "huggingface_hub",
    "http": "fsspec[http]",
    "https": "fsspec[http]",
    "oci": "ocifs",
    "oss": "ossfs",
    "s3": "s3fs",
    "s3a": "s3fs",
    "sftp": "paramiko",
    "smb": "smbprotocol",
    "ssh": "paramiko",
    "webdav": "webdav4[fsspec]",
}
"""The package that a protocol needs in addition to fsspec."""

_PERMANENT = (FileNotFoundError, FileExistsError, PermissionError, NotImplementedError, ImportError)
"""Errors that another attempt would repeat."""

_DENIED = (401, 403)
"""HTTP status of denied access; for 404 fsspec raises FileNotFoundError."""

_WITHOUT_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "NoAuthTokenError",
                        "DefaultCredentialsError", "RefreshError", "ProfileNotFound")  # fmt: skip
"""Names of the errors for missing credentials in the libraries of S3 and Google Cloud, which need not be
imported for this."""

_INVALID = ("ParamValidationError", "InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError")
"""Names of the errors for addresses that cannot exist, in the libraries of S3 and of HTTP."""

_BUCKET_PROTOCOLS = frozenset({"gcs", "gs", "oss", "r2", "s3", "s3a"})
"""Protocols whose URLs begin with the name of a bucket."""


def find_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it.

    Raises:
        MissingExtraError: fsspec, or the package of the protocol, is not installed.
        InputError: a protocol unknown to fsspec, or an invalid URL.
    """
    find = import_extra("fsspec.core", "similarity").url_to_fs
    _check_address(address)
    try:
        system, path = find(address)
    except ImportError as error:
        raise _explain_missing_package(address, error) from error
    except Exception as error:  # fsspec's file systems raise errors of many types
        if _lacks_credentials(error):
            raise _explain_no_credentials(redact_urls(address)) from error
        raise InputError(
            f"{redact_urls(address)} cannot be reached ({describe_error(error)})."
        ) from error
    return system, path


def _check_address(address: str) -> None:
    protocol, _, rest = address.rpartition("::")[2].partition("://")
    try:
        urlsplit(address.rpartition("::")[2])
    except ValueError as error:
        raise InputError(
            f"{redact_urls(address)} is not a valid URL ({describe_error(error)})."
        ) from error
    if protocol.lower() in _BUCKET_PROTOCOLS and rest.startswith("/"):
        raise InputError(
            f"{redact_urls(address)} names no bucket; expected {protocol}://BUCKET/FOLDER."
        )


def retry(url: str, request: Callable[[], Response], *, what: str = "read") -> Response:
    """Return the result of a request to a store, with up to :data:`ATTEMPTS` attempts.

    Args:
        url: for messages, without secrets.
        request: an idempotent function that makes the request.
        what: the operation for messages: "read", "listed", "written".

    Raises:
        BrokenFileError: there is no such file or bucket.
        InputError: no credentials, or they do not permit the operation.
        RunError: every attempt failed.
    """
    for attempt in range(ATTEMPTS):
        try:
            return request()
        except (InputError, RunError, MissingExtraError):
            raise
        except Exception as error:
            if is_permanent(error):
                raise _explain(url, error, what) from error
            if attempt + 1 == ATTEMPTS:
                raise RunError(
                    f"{url} could not be {what} in {ATTEMPTS} attempts ({describe_error(error)}). "
                    "Finished work is kept; start the same command again when the store responds."
                ) from error
        time.sleep(PAUSE * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def is_permanent(error: BaseException) -> bool:
    """Return whether another attempt would raise the same error."""
    is_denied = getattr(error, "status", None) in _DENIED
    return (
        isinstance(error, _PERMANENT)
        or is_denied
        or _is_invalid(error)
        or _lacks_credentials(error)
    )


def _explain(url: str, error: BaseException, what: str) -> Exception:
    if _lacks_credentials(error):
        return _explain_no_credentials(url)
    if _is_invalid(error):
        return InputError(
            f"{url} cannot be {what}: the address is invalid ({_describe_invalid(error)}). "
            "Check the spelling of bucket or host and path."
        )
    if isinstance(error, ImportError):
        return InputError(f"{url} cannot be {what} ({describe_error(error)}).")
    if isinstance(error, PermissionError) or getattr(error, "status", None) in _DENIED:
        # No BrokenFileError: credentials may expire during a run whose images are intact.
        return InputError(
            f"{url} cannot be {what}: the store denies access ({describe_error(error)}). Check that the "
            "credentials permit it and have not expired."
        )
    if isinstance(error, NotImplementedError):
        return InputError(
            f"{url} cannot be {what}: this kind of store does not support it. Folders are written to "
            "stores such as s3, gs, abfs and hdfs."
        )
    return BrokenFileError(f"{url} cannot be {what} ({describe_error(error)}).")


def _is_invalid(error: BaseException) -> bool:
    return type(error).__name__ in _INVALID


def _describe_invalid(error: BaseException) -> str:
    """Return the message, without botocore's heading and regular expressions."""
    heading, _, rest = str(error).partition("\n")
    first = describe_error(ValueError(rest or heading))
    return first.partition('": ')[0] + '"' if '": ' in first else first


def _lacks_credentials(error: BaseException | None) -> bool:
    while error is not None:
        if type(error).__name__ in _WITHOUT_CREDENTIALS:
            return True
        error = error.__cause__
    return False


def _explain_no_credentials(url: str) -> InputError:
    return InputError(
        f"{url} cannot be reached: no credentials were found. Set them as for the store's own tools, "
        "for s3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`."
    )


def _explain_missing_package(address: str, error: ImportError) -> MissingExtraError:
    protocol = address.split("://")[0].split("::")[-1].lower()
    package = _PACKAGES.get(protocol)
    if package is None:
        return MissingExtraError(
            f"{redact_urls(address)} cannot be reached ({describe_error(error)})."
        )
    return MissingExtraError(
        f"{redact_urls(address)} needs {package}, which is not installed. Install it with: "
        f'python -m pip install "{package}"'
    )
