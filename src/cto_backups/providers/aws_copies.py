"""How S3 copies an object by itself: in one request up to 5 GiB, in parts beyond, each from the state that is meant.

The API is https://docs.aws.amazon.com/AmazonS3/latest/userguide/copy-object.html. Nothing of the object's own
properties comes along, and no tags: a copy is told all that is to be told of it.
"""

import base64
import contextlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.core.objects import ObjectState

SINGLE_BYTES: Final = 5 << 30  # S3's own bound
PART_BYTES: Final = 512 << 20
_MOST_PARTS: Final = 10_000
_AT_ONCE: Final = 8
_NO_VERSION: Final = ("", "null")
_CHECKSUMS: Final = {"ChecksumSHA256": "sha256", "ChecksumCRC32C": "crc32c"}


def copy(
    client: Any,
    told: Mapping[str, Any],
    state: ObjectState,
    condition: Mapping[str, str],
    *,
    single_bytes: int = SINGLE_BYTES,
    part_bytes: int = PART_BYTES,
) -> Mapping[str, Any]:
    """Make the object that `told` names a copy of the state, if the condition holds; what the store says of the copy.

    Raises ClientError, BotoCoreError; nothing of it stays then, as far as that can be seen to.
    """
    if state.size <= single_bytes:
        answer: Mapping[str, Any] = client.copy_object(
            **told,
            **_source(state),
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            ChecksumAlgorithm="SHA256",  # which S3 computes of what it copies
            **condition,
        )
        return {**answer, **answer.get("CopyObjectResult", {})}
    place = {"Bucket": told["Bucket"], "Key": told["Key"]}
    # Of parts, only the checksum of the whole can be compared by those who do not know how it was cut.
    begun = client.create_multipart_upload(**told, ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT")
    place["UploadId"] = begun["UploadId"]
    try:
        length = max(part_bytes, -(-state.size // _MOST_PARTS))
        ranges = [(begin, min(begin + length, state.size)) for begin in range(0, state.size, length)]

        def part(number: int, begin: int, end: int) -> Mapping[str, Any]:
            source = {**_source(state), "CopySourceRange": f"bytes={begin}-{end - 1}"}
            done = client.upload_part_copy(**place, **source, PartNumber=number)["CopyPartResult"]
            sums = {name: done[name] for name in _CHECKSUMS if done.get(name)}
            return {"PartNumber": number, "ETag": done["ETag"], **sums}

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="copy") as pool:
            futures = [pool.submit(part, number, *each) for number, each in enumerate(ranges, 1)]
            parts = [future.result() for future in futures]
        done: Mapping[str, Any] = client.complete_multipart_upload(
            **place, MultipartUpload={"Parts": parts}, **condition
        )
    except BaseException:
        with contextlib.suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**place)
        raise
    return done


def checksums(answer: Mapping[str, Any]) -> dict[str, str]:
    """The checksums of the whole that an answer tells; not those of parts' checksums."""
    found = {}
    for theirs, ours in _CHECKSUMS.items():
        value = answer.get(theirs)
        if value and "-" not in value and answer.get("ChecksumType") != "COMPOSITE":
            found[ours] = base64.b64decode(value).hex()
    return found


def _source(state: ObjectState) -> dict[str, Any]:
    """The state that is meant: its version where there is one, and in any case its entity tag."""
    source = {"Bucket": state.bucket, "Key": state.key}
    if state.generation not in _NO_VERSION:
        source["VersionId"] = state.generation
    return {"CopySource": source, **({"CopySourceIfMatch": f'"{state.etag}"'} if state.etag else {})}
