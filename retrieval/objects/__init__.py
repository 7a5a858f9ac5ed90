"""Object stores: s3://, gs:// and az:// as paths."""

from retrieval.objects.path import (
    MOST_OF_A_SIZE,
    ObjectChangedError,
    ObjectFacts,
    ObjectPath,
    is_address,
    place_of,
)

__all__ = [
    "MOST_OF_A_SIZE",
    "ObjectChangedError",
    "ObjectFacts",
    "ObjectPath",
    "is_address",
    "place_of",
]
