"""How Google Cloud Storage copies an object by itself: it is asked again until it has rewritten all of it.

The API is https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite. Within a location and a storage class one
request does; else each goes on from where the one before came to.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from cto_backups.core.objects import ObjectState
from cto_backups.providers.google import GoogleClient, RefusedError

_TOLD: Final = "size,crc32c,md5Hash,kmsKeyName,generation,retention"
_FIELDS: Final = f"done,rewriteToken,totalBytesRewritten,resource({_TOLD})"
_CHECKSUMS: Final = {"crc32c": "crc32c", "md5Hash": "md5"}
_STANDING: Final = 10  # answers in a row that came no further
_JSON: Final = {"Content-Type": "application/json; charset=UTF-8"}


def copy(
    client: GoogleClient,
    objects: str,
    told: Mapping[str, Any],
    state: ObjectState,
    generation: int | str = 0,
    kms_key: str | None = None,
) -> Mapping[str, Any]:
    """Make the object that `told` says a copy of the state; what the store says of the copy.

    `objects` is the path of the objects of the bucket that it comes into, `generation` the one that is there now, 0 for
    none. Raises RefusedError, and what FAILED has.
    """
    source = f"/storage/v1/b/{quote(state.bucket, safe='')}/o/{quote(state.key, safe='')}"
    name = quote(str(told["name"]), safe="")
    path = f"{source}/rewriteTo{objects.removeprefix('/storage/v1')}/{name}"
    token, came, standing = None, 0, 0
    while True:
        answer = client.told(
            "POST",
            path,
            headers=_JSON,
            body=json.dumps({"contentType": "application/octet-stream", **told}).encode,
            sourceGeneration=state.generation or None,
            ifGenerationMatch=generation,
            destinationKmsKeyName=kms_key,
            rewriteToken=token,
            fields=_FIELDS,
        )
        if answer.get("done"):
            resource: Mapping[str, Any] = answer["resource"]
            return resource
        token, before, came = answer.get("rewriteToken"), came, int(answer.get("totalBytesRewritten", 0))
        standing = standing + 1 if came <= before else 0
        if not token or standing == _STANDING:
            raise RefusedError(500, "rewriteStands", "the store rewrites an object, and gets no further with it")


def checksums(resource: Mapping[str, Any]) -> dict[str, str]:
    """The checksums that an object's resource tells."""
    return {
        ours: base64.b64decode(resource[theirs]).hex() for theirs, ours in _CHECKSUMS.items() if resource.get(theirs)
    }
