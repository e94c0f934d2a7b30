"""How content gets into an object of S3: in one request, or where it is large, in parts that travel side by side.

What the store is told of an object beside its content has its place in `told`, the settings that PutObject and
CreateMultipartUpload share.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.core.trees import Buffer
from cto_backups.vaults.joined import Joined

_SINGLE_BYTES = 32 << 20  # what is larger is sent in parts, so that only a lost one has to be sent again
_PART_BYTES = 16 << 20  # S3 wants at least 5 MiB, and at most 10,000 of them
_MOST_PARTS = 10_000
_AT_ONCE = 4

Digest = Callable[[], Any]


def upload(
    client: Callable[[], Any], told: Mapping[str, Any], parts: Sequence[Buffer], *, condition: Mapping[str, str]
) -> Mapping[str, Any]:
    """Store the parts as the object that `told` names, under the condition; the store's answer, with ContentLength.

    Raises ClientError, BotoCoreError.
    """
    size = sum(memoryview(part).nbytes for part in parts)
    if size > _SINGLE_BYTES:
        return {"ContentLength": size, **_in_parts(client, told, parts, size, condition)}
    answer = client().put_object(
        **told,
        **condition,
        Body=Joined(parts),
        ContentLength=size,
        ChecksumAlgorithm="SHA256",
        ChecksumSHA256=_base64(_digest(parts, hashlib.sha256)),
    )
    return {"ContentLength": size, **answer}


def proven(answer: Mapping[str, Any], parts: Sequence[Buffer]) -> bool | None:
    """Whether what a store says of an object shows that it is this content; None: it tells nothing to compare.

    The checksum of an object that came in parts is that of its parts' checksums; which parts, only who sent it knows
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
    """
    size = sum(memoryview(part).nbytes for part in parts)
    if int(answer["ContentLength"]) != size:
        return False
    if (checksum := answer.get("ChecksumSHA256")) is not None:
        return _same(str(checksum), parts, size, hashlib.sha256, lambda digest: base64.b64encode(digest).decode())
    # Older stores know no checksums; their entity tag is made of the content's MD5. Against accidents it does.
    tag = str(answer.get("ETag", "")).strip('"')
    return _same(tag, parts, size, lambda: hashlib.md5(usedforsecurity=False), bytes.hex)


def _same(told: str, parts: Sequence[Buffer], size: int, new: Digest, written: Callable[[bytes], str]) -> bool | None:
    whole, _, count = told.partition("-")
    if not count:
        return whole == written(_digest(parts, new))
    ranges = _ranges(size)
    if count != str(len(ranges)):
        return None  # cut into other parts than we would
    content = Joined(parts)
    each = [_digest(content.part(begin, end).parts, new) for begin, end in ranges]
    return whole == written(_digest(each, new))


def _in_parts(
    client: Callable[[], Any],
    told: Mapping[str, Any],
    parts: Sequence[Buffer],
    size: int,
    condition: Mapping[str, str],
) -> Mapping[str, Any]:
    place = {"Bucket": told["Bucket"], "Key": told["Key"]}
    begun = client().create_multipart_upload(**told, ChecksumAlgorithm="SHA256")
    place["UploadId"] = begun["UploadId"]

    content = Joined(parts)

    def send(numbered: tuple[int, tuple[int, int]]) -> dict[str, Any]:
        number, (begin, end) = numbered
        body = content.part(begin, end)
        checksum = _base64(_digest(body.parts, hashlib.sha256))
        sent = client().upload_part(
            **place, PartNumber=number, Body=body, ContentLength=body.size, ChecksumSHA256=checksum
        )
        return {"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum}

    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="part") as pool:
            futures = [pool.submit(send, numbered) for numbered in enumerate(_ranges(size), 1)]
            try:
                stored = [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        answer: Mapping[str, Any] = client().complete_multipart_upload(
            **place, MultipartUpload={"Parts": stored}, **condition
        )
    except BaseException:
        # What came through is paid for until somebody removes it. If this fails too, sweeping does.
        with contextlib.suppress(ClientError, BotoCoreError):
            client().abort_multipart_upload(**place)
        raise
    return answer


def _ranges(size: int) -> list[tuple[int, int]]:
    """Where the parts of so many bytes begin and end."""
    length = max(_PART_BYTES, -(-size // _MOST_PARTS))
    return [(begin, min(begin + length, size)) for begin in range(0, size, length)]


def _digest(parts: Sequence[Buffer], new: Digest) -> bytes:
    digest = new()
    for part in parts:
        digest.update(part)
    return bytes(digest.digest())


def _base64(digest: bytes) -> str:
    """As S3 writes checksums."""
    return base64.b64encode(digest).decode()
