"""Object stores: s3://, gs:// and az:// as paths."""

from retrieval.objects.path import ObjectChangedError, ObjectFacts, ObjectPath, is_address, place_of

__all__ = ["ObjectChangedError", "ObjectFacts", "ObjectPath", "is_address", "place_of"]
