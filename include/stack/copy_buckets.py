"""Copies all objects of the three buckets as one tar: `save` writes it to standard output, `load` restores it."""

from __future__ import annotations

import sys
import tarfile
from typing import Any

from buckets import BUCKETS, client_of, main


def save() -> None:
    """Write every object in turn; an object that is deleted meanwhile is left out."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for purpose in BUCKETS:
            client, bucket = client_of(purpose)
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    _add(archive, client, bucket, purpose, entry["Key"])


class _Stream:
    """A file of the archive for boto3, which must not find it seekable."""

    def __init__(self, source: Any) -> None:
        self.read = source.read


def load() -> None:
    """Upload every object and delete those missing from the archive; missing buckets are created."""
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
            for entry in page.get("Contents", []):
                if entry["Key"] not in keys:
                    client.delete_object(Bucket=bucket, Key=entry["Key"])


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
