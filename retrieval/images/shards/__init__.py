"""Images inside of larger files: tar shards, datasets in Parquet, and lists of images elsewhere."""

from retrieval.images.shards.members import (
    holds_member,
    is_shard,
    member_of,
    read_member,
    shard_etag,
    shard_folders,
    size_of_member,
)

__all__ = [
    "holds_member",
    "is_shard",
    "member_of",
    "read_member",
    "shard_etag",
    "shard_folders",
    "size_of_member",
]
