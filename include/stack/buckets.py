"""The buckets for data, task logs and MLflow's artifacts, each made with the key that will use it; one that is there stays."""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

BUCKETS = {"data": "DATA", "logs": "DATA", "mlflow": "MLFLOW"}
"""What a bucket is for, and whose key it belongs to."""
SECONDS = 30
"""So long a server that answers with errors is asked again."""


@cache
def client_of(purpose: str) -> tuple[Any, str]:
    """A client with the key of a bucket, and the bucket's name."""
    owner = BUCKETS[purpose]
    client = boto3.client(
        "s3",
        aws_access_key_id=os.environ[f"S3_{owner}_ACCESS_KEY"],
        aws_secret_access_key=os.environ[f"S3_{owner}_SECRET_KEY"],
    )
    return client, f"{os.environ['S3_BUCKET_PREFIX']}-{purpose}"


def main() -> None:
    """Make those that are missing."""
    region = os.environ["AWS_DEFAULT_REGION"]
    # Of all regions this one may not be named.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    for purpose in BUCKETS:
        client, bucket = client_of(purpose)
        for patience in reversed(range(SECONDS)):
            try:
                _make_bucket(client, bucket, place)
                break
            except (BotoCoreError, ClientError):  # a server that has just begun may say anything
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
