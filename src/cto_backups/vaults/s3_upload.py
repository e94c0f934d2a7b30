"""How content gets into an object of S3: in one request, or in parts that travel side by side, each proven by its sum.

What the store is told of an object beside its content has its place in `told`, the settings that PutObject and
CreateMultipartUpload share.
"""

import base64
import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from cto_backups.core.trees import Buffer
from cto_backups.core.vaults import Summed
from cto_backups.vaults.joined import Joined

_SINGLE_BYTES = 32 << 20  # what is larger is sent in parts, so that only a lost one has to be sent again
_PART_BYTES = 16 << 20  # S3 wants at least 5 MiB, and at most 10,000 of them
_MOST_PARTS = 10_000
_AT_ONCE = 4
_WAITING_BYTES = 32 << 20  # of a stream: as much may be on its way while more is awaited
_GROWS_EVERY = 2000  # parts of a stream of unknown length, to four times as much: 4.7 TiB are less than 10,000 parts

Digest = Callable[[], Any]


class ProofError(Exception):
    """The store tells another checksum than that of what was sent, or none."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that was stored, as the request to complete the upload names it; and its SHA-256."""

    entry: Mapping[str, Any]
    sha256: bytes


def checksum(parts: Sequence[Buffer]) -> str | None:
    """The checksum that goes along with the parts in one request; None for what goes in parts, each with its own."""
    size = sum(memoryview(part).nbytes for part in parts)
    if size > _SINGLE_BYTES:
        return None
    return _base64(parts.sha256 if isinstance(parts, Summed) else _digest(parts, hashlib.sha256))


def upload(
    client: Callable[[], Any],
    told: Mapping[str, Any],
    parts: Sequence[Buffer],
    *,
    condition: Mapping[str, str],
    sent: str | None,
) -> Mapping[str, Any]:
    """Store the parts as the object that `told` names, under the condition; the store's answer, with ContentLength.

    `sent` is their `checksum`. Raises ClientError, BotoCoreError.
    """
    size = sum(memoryview(part).nbytes for part in parts)
    if sent is None:
        content = Joined(parts)
        bodies = (content.part(begin, end) for begin, end in _ranges(size))
        answer, _ = _in_parts(client, told, bodies, condition, size)
        return {"ContentLength": size, **answer}
    answer = client().put_object(
        **told,
        **condition,
        Body=Joined(parts),
        ContentLength=size,
        ChecksumAlgorithm="SHA256",
        ChecksumSHA256=sent,
    )
    return {"ContentLength": size, **answer}


def stream(
    client: Callable[[], Any], told: Mapping[str, Any], parts: Iterable[bytearray], *, condition: Mapping[str, str]
) -> Mapping[str, Any]:
    """Store parts as they come; the store's answer. What they raise is raised, and nothing is stored then.

    Raises ClientError, BotoCoreError, and ProofError: nothing is stored where a part is not what was sent.
    """
    answer, stored = _in_parts(client, told, _growing(parts), condition, _WAITING_BYTES)
    whole = _base64(hashlib.sha256(b"".join(part.sha256 for part in stored)).digest())
    if answer.get("ChecksumSHA256", whole).partition("-")[0] != whole:
        raise ProofError
    return answer


def _growing(parts: Iterable[bytearray]) -> Iterator[Joined]:
    """Bodies of parts of uploads: the later ones of more than one of the parts that come."""
    left, together = iter(parts), 1
    while True:
        for _ in range(_GROWS_EVERY):
            if not (taken := list(islice(left, together))):
                return
            yield Joined(taken)
        together *= 4


def proven(answer: Mapping[str, Any], parts: Sequence[Buffer], sent: str | None = None) -> bool | None:
    """Whether what a store says of an object shows that it is this content; None: it tells nothing to compare.

    `sent` is the `checksum` of the parts, where it is known: a store that tells the same has compared them with it.

    The checksum of an object that came in parts is that of its parts' checksums; which parts, only who sent it knows
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
    """
    size = sum(memoryview(part).nbytes for part in parts)
    if int(answer["ContentLength"]) != size:
        return False
    if (told := answer.get("ChecksumSHA256")) is not None:
        return sent == told or _same(
            str(told), parts, size, hashlib.sha256, lambda digest: base64.b64encode(digest).decode()
        )
    # Older stores know no checksums; their entity tag is made of the content's MD5. Against accidents it does.
    tag = str(answer.get("ETag", "")).strip('"')
    return _same(tag, parts, size, _md5, bytes.hex)


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
    bodies: Iterable[Joined],
    condition: Mapping[str, str],
    waiting_bytes: int,
) -> tuple[Mapping[str, Any], list[_Part]]:
    """Send the parts, up to so many bytes of them at once; the store's answer in the end."""
    place = {"Bucket": told["Bucket"], "Key": told["Key"]}
    begun = client().create_multipart_upload(**told, ChecksumAlgorithm="SHA256")
    place["UploadId"] = begun["UploadId"]
    try:
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="part") as pool:
            stored: list[_Part] = []
            futures: deque[Future[_Part]] = deque()
            sizes: deque[int] = deque()
            try:
                for number, body in enumerate(bodies, 1):
                    while futures and sum(sizes) + body.size > waiting_bytes:
                        stored.append(futures.popleft().result())
                        sizes.popleft()
                    futures.append(pool.submit(_send, client, place, number, body))
                    sizes.append(body.size)
                    del body  # nobody else holds it once it is sent
                stored += [future.result() for future in futures]
            except BaseException:
                for future in futures:
                    future.cancel()
                raise
        entries = [part.entry for part in stored]
        answer: Mapping[str, Any] = client().complete_multipart_upload(
            **place, MultipartUpload={"Parts": entries}, **condition
        )
    except BaseException:
        # What came through is paid for until somebody removes it. If this fails too, sweeping does.
        with contextlib.suppress(ClientError, BotoCoreError):
            client().abort_multipart_upload(**place)
        raise
    return answer, stored


def _send(client: Callable[[], Any], place: Mapping[str, str], number: int, body: Joined) -> _Part:
    """Send one part. Raises ClientError, BotoCoreError, ProofError."""
    digest = _digest(body.parts, hashlib.sha256)
    checksum, size = _base64(digest), body.size
    sent = client().upload_part(**place, PartNumber=number, Body=body, ContentLength=size, ChecksumSHA256=checksum)
    if (told := sent.get("ChecksumSHA256")) is None:
        # An older store; what it tells is the MD5.
        told, checksum_there = sent["ETag"].strip('"'), _digest(body.parts, _md5).hex()
    else:
        checksum_there = checksum
    if told != checksum_there:
        raise ProofError
    return _Part({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum}, digest)


def _ranges(size: int) -> list[tuple[int, int]]:
    """Where the parts of so many bytes begin and end."""
    length = max(_PART_BYTES, -(-size // _MOST_PARTS))
    return [(begin, min(begin + length, size)) for begin in range(0, size, length)]


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


def _digest(parts: Sequence[Buffer], new: Digest) -> bytes:
    digest = new()
    for part in parts:
        digest.update(part)
    return bytes(digest.digest())


def _base64(digest: bytes) -> str:
    """As S3 writes checksums."""
    return base64.b64encode(digest).decode()
