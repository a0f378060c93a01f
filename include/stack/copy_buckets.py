"""All objects of the three buckets as one tar: `save` writes it to standard output, `load` makes the buckets what it holds."""

from __future__ import annotations

import sys
import tarfile
from typing import Any

from buckets import BUCKETS, client_of, main


def save() -> None:
    """Write every object, one after the other; an object that goes meanwhile is left out."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for purpose in BUCKETS:
            client, bucket = client_of(purpose)
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for found in page.get("Contents", []):
                    _add(archive, client, bucket, purpose, found["Key"])


class _Stream:
    """A file of the archive as boto3 needs it: one that does not claim to know how to seek."""

    def __init__(self, source: Any) -> None:
        self.read = source.read


def load() -> None:
    """Put every object, and remove those that the archive does not hold; buckets that are missing are made."""
    main()
    kept: dict[str, set[str]] = {purpose: set() for purpose in BUCKETS}
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            purpose, _, key = member.name.partition("/")
            client, bucket = client_of(purpose)
            client.upload_fileobj(_Stream(archive.extractfile(member)), bucket, key)
            kept[purpose].add(key)
    for purpose, keys in kept.items():
        client, bucket = client_of(purpose)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", []):
                if found["Key"] not in keys:
                    client.delete_object(Bucket=bucket, Key=found["Key"])


def _add(archive: tarfile.TarFile, client: Any, bucket: str, purpose: str, key: str) -> None:
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
    except client.exceptions.NoSuchKey:
        return
    member = tarfile.TarInfo(f"{purpose}/{key}")
    member.size = answer["ContentLength"]
    archive.addfile(member, answer["Body"])


if __name__ == "__main__":
    {"save": save, "load": load}[sys.argv[1]]()
