"""The clients of object stores, one a bucket, and what they raise as OSErrors.

obstore and Lance share the crate object_store, so both read credentials, regions and endpoints from
the same places: the variables and files of each provider. None is ever stored in a gallery.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from typing import Any

from retrieval.libraries import how_to_install, is_installed

SCHEMES = ("s3", "gs", "az")
TIMEOUT = "60s"  # of one request
RETRIES, RETRIED_FOR = 5, timedelta(seconds=60)
# Of Lance, whose requests end after 30 seconds; its AIMD layer would ask all of this four times
OF_LANCE = {
    "client_max_retries": "16", "client_retry_timeout": "45", "lance_aimd_max_retries": "0",
}  # fmt: skip
GIVEN_UP = re.compile(r"error sending request|retry_timeout: \d")  # in what Lance raises
ANSWER = re.compile(r"non-2xx status code: (\d{3}[ \w]*)")
WAITS_FIRST = timedelta(seconds=0.5)  # a store that is asked too often says 503 for some seconds
METADATA = ("169.254.169.254", "metadata.google.internal")  # asked where there is nothing else
NO_CREDENTIALS = "there are no credentials for this store"
NO_PATH = "Encountered object with invalid path: "
NO_KEY = "Could not parse path"  # how a ValueError of obstore begins
ODD_KEY = "its key has a control character, or an empty part, . or ..; rename it"
MOST_SAID = 300  # characters of what a store says
_REQUEST = re.compile(r"^Generic \w+ error: (?:Error performing .* in [\d.]+\w+(?:, .*)? +- )?")
_IN_PLAIN_WORDS = {
    "Server returned non-2xx status code: ": "the store answers ",
    "HTTP error: error sending request": "the store does not answer: error sending request",
    "HTTP error: request or response body error": "the answer of the store breaks off",
}


class BadKeyError(OSError):
    """A folder has a key that is no path, such as one with an empty part."""


class ObjectChangedError(OSError):
    """Raised where another writer has changed, made or deleted an object since it was read."""


@lru_cache(maxsize=64)
def store_of(scheme: str, bucket: str) -> Any:
    """Return the client of a bucket. Raises OSError where it cannot be made."""
    if not is_installed("obstore"):
        by = f"{scheme}://{bucket}"
        raise OSError(errno.ENOSYS, how_to_install("obstore", by=by), by)
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    try:
        return from_url(
            f"{scheme}://{bucket}",
            client_options={"timeout": TIMEOUT, "allow_http": _allows_http()},
            retry_config={
                "max_retries": RETRIES,
                "retry_timeout": RETRIED_FOR,
                "backoff": {"init_backoff": WAITS_FIRST, "max_backoff": RETRIED_FOR / 4, "base": 2},
            },
            **_credentials(scheme),
        )
    except (BaseError, ValueError) as error:
        raise OSError(errno.EINVAL, _said(error), f"{scheme}://{bucket}") from error


def _allows_http() -> bool:
    """Whether the user lets object_store speak without TLS, as it is told for Lance, too."""
    names = ("AWS_ALLOW_HTTP", "ALLOW_HTTP")
    return any(os.environ.get(name, "").lower() in ("1", "true") for name in names)


def _credentials(scheme: str) -> dict[str, Any]:
    """The credentials of the provider's own library, if it is there: profiles, roles, logins."""
    if scheme == "s3" and is_installed("boto3"):
        import boto3  # type: ignore[import-untyped]
        from obstore.auth.boto3 import Boto3CredentialProvider

        session = boto3.Session()
        if session.get_credentials() is not None:
            return {"credential_provider": Boto3CredentialProvider(session)}
    return {}


def options_of_lance(place: object) -> dict[str, str] | None:
    """Return Lance's storage options for a table: how long it asks a store that does not answer.

    None for a table on this machine. What the user has set in the environment is left to it:
    LANCE_AIMD_MAX_RETRIES here, and OBJECT_STORE_CLIENT_MAX_RETRIES and
    OBJECT_STORE_CLIENT_RETRY_TIMEOUT by Lance, which takes these before any options.
    """
    if not str(place).startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return None
    return {name: value for name, value in OF_LANCE.items() if name.upper() not in os.environ}


def unanswered(error: BaseException) -> str | None:
    """Return why Lance has given up asking a store; None for any other error."""
    if not GIVEN_UP.search(str(error)):
        return None
    answer = ANSWER.search(str(error))
    return f"the store answers {answer[1].strip()}" if answer else "the store does not answer"


@contextlib.contextmanager
def said_as_os_errors(name: str) -> Iterator[None]:
    """Turn what a store raises into OSErrors of a name, as a file system raises them."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "it is not there", name) from error
    except (exceptions.PreconditionError, exceptions.AlreadyExistsError) as error:
        raise ObjectChangedError(errno.EEXIST, "another writer has changed it", name) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError(errno.EACCES, "the store refuses the credentials", name) from error
    except ValueError as error:  # also raised by who asks, as for an object that is too large
        if not str(error).startswith(NO_KEY):
            raise
        raise OSError(errno.EINVAL, ODD_KEY, name) from error
    except exceptions.BaseError as error:
        said = _said(error)
        if said.startswith(NO_PATH):
            raise BadKeyError(errno.EINVAL, f"{said[len(NO_PATH) :]}; rename it", name) from error
        if any(place in str(error) for place in METADATA):
            raise PermissionError(errno.EACCES, NO_CREDENTIALS, name) from error
        if "404 Not Found" in said:
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket", name) from error
        raise OSError(errno.EIO, said, name) from error


def _said(error: BaseException) -> str:
    """What a store says in one line; obstore adds the whole of Rust's error below the first.

    Addresses and times are left out: they differ each time, and the place is named beside it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else type(error).__name__
    said = _REQUEST.sub("", said.partition(": <?xml")[0])
    for theirs, ours in _IN_PLAIN_WORDS.items():
        said = said.replace(theirs, ours)
    return said.strip().rstrip(":")[:MOST_SAID]
