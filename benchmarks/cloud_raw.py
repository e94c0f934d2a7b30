"""The same bytes without anything: what objects of the same sizes cost over the same client. A process each.

    python -m benchmarks.cloud_raw upload|copy|read|restore ENDPOINT BUCKET OTHER_BUCKET FOLDER THREADS

With the login in AWS's variables. `upload` stores the files of a folder; `copy` brings a bucket's objects to the other
bucket, through this process; `read` reads them; `restore` writes what it reads to FOLDER.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def main() -> None:
    """Do it, so many objects at a time."""
    import boto3
    from botocore.config import Config

    what, endpoint, bucket, other, folder, threads = sys.argv[1:]
    config = Config(
        max_pool_connections=32,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    client: Any = boto3.client("s3", endpoint_url=endpoint, config=config)

    def read(name: str) -> bytes:
        return bytes(client.get_object(Bucket=bucket, Key=name)["Body"].read())

    def upload(name: str) -> None:
        client.put_object(Bucket=bucket, Key=name, Body=(Path(folder) / name).read_bytes())

    def copy(name: str) -> None:
        client.put_object(Bucket=other, Key=name, Body=read(name))

    def restore(name: str) -> None:
        (Path(folder) / name).write_bytes(read(name))

    doing: dict[str, Callable[[str], object]] = {"upload": upload, "copy": copy, "read": read, "restore": restore}
    if what == "upload":
        names = [path.name for path in Path(folder).iterdir()]
    else:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        names = [each["Key"] for page in pages for each in page.get("Contents", ())]
    with ThreadPoolExecutor(int(threads)) as pool:
        list(pool.map(doing[what], names))


if __name__ == "__main__":
    main()
