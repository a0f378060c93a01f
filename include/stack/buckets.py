"""Creates the buckets for data, task logs and artifacts, each with the key that uses it; existing buckets are kept."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

BUCKETS = {"data": "DATA", "logs": "DATA", "mlflow": "MLFLOW"}
"""The purpose of each bucket, and the owner of its key."""
SECONDS = 30
"""Seconds for which a server that answers with errors is retried."""


@cache
def client_of(purpose: str) -> tuple[Any, str]:
    """Return a client with the key of a bucket, and the name of the bucket."""
    owner = BUCKETS[purpose]
    client = boto3.client(
        "s3",
        aws_access_key_id=os.environ[f"S3_{owner}_ACCESS_KEY"],
        aws_secret_access_key=os.environ[f"S3_{owner}_SECRET_KEY"],
    )
    return client, f"{os.environ['S3_BUCKET_PREFIX']}-{purpose}"


def main() -> None:
    """Create the missing buckets."""
    region = os.environ["AWS_DEFAULT_REGION"]
    # S3 does not accept this region by name.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for purpose in BUCKETS:
        client, bucket = client_of(purpose)
        for patience in reversed(range(SECONDS)):
            try:
                _make_bucket(client, bucket, place)
                break
            except (BotoCoreError, ClientError):  # a server that is starting may answer with any error
                if not patience:
                    raise
                time.sleep(1)


def _make_bucket(client: Any, bucket: str, place: dict[str, Any]) -> None:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
        client.create_bucket(Bucket=bucket, **place)


if __name__ == "__main__":
    main()
