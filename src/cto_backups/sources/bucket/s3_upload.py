"""How content gets into an object of a store that speaks S3: in one request, or where it is large, in parts."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cto_backups.sources.bucket.stores import Properties

_SINGLE_BYTES: Final = 64 << 20
_MOST_PARTS: Final = 10_000
_PART_BYTES: Final = 64 << 20
_RESTORED: Final = {
    "content_type": "ContentType",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
    "content_disposition": "ContentDisposition",
    "cache_control": "CacheControl",
    "website_redirect": "WebsiteRedirectLocation",
    "metadata": "Metadata",
    "storage_class": "StorageClass",
}


def told_of(properties: Properties) -> dict[str, Any]:
    """What the store is told of an object beside its content."""
    return {theirs: properties[ours] for ours, theirs in _RESTORED.items() if properties.get(ours)}


def put(
    client: Any,
    place: Mapping[str, str],
    size: int,
    content: Callable[[], Any],
    properties: Properties,
    condition: Mapping[str, str],
) -> None:
    """Write an object at `place` with the properties of its manifest, if the condition holds then.

    Raises botocore's errors; parts of what failed are removed.
    """
    told = told_of(properties)
    if size <= _SINGLE_BYTES:
        with content() as body:
            client.put_object(**place, Body=body, ContentLength=size, **told, **condition)
        return
    upload = client.create_multipart_upload(**place, **told)["UploadId"]
    try:
        parts: list[dict[str, Any]] = []
        part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))
        with content() as body:
            while data := body.read(part_bytes):
                number = len(parts) + 1
                answer = client.upload_part(**place, UploadId=upload, PartNumber=number, Body=data)
                parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        client.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        client.abort_multipart_upload(**place, UploadId=upload)
        raise
