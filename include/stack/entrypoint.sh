#!/bin/sh
# What every container of ours starts with. An empty address means Amazon's own, and not the address "".
set -eu
[ -n "${AWS_ENDPOINT_URL_S3:-}" ] || unset AWS_ENDPOINT_URL_S3
exec "$@"
