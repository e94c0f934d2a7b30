"""What an extract loses, as the API describes it: definitions of datasets, tables, views and routines, who sees what.

They are kept as JSON, without what changes by itself: counts, sizes, and when something was touched last.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final
from urllib.parse import quote

from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery.client import BigQuery, Document

_PASSING: Final = frozenset(
    {"etag", "id", "kind", "selfLink", "creationTime", "lastModifiedTime", "streamingBuffer", "materializedViewStatus"}
    | {"nextRunTime", "updateTime", "state", "satisfiesPzs", "satisfiesPzi", "replicas", "partitionDefinition"}
)
_COUNTED: Final = "num"  # numRows, numBytes, numLongTermBytes …
_OF_A_COPY: Final = ("schema", "timePartitioning", "rangePartitioning", "clustering", "description", "friendlyName")
_MORE_OF_A_COPY: Final = ("labels", "tableConstraints", "defaultCollation", "defaultRoundingMode")
_LONGEST_NAME: Final = 180


def lasting(document: Mapping[str, Any]) -> Document:
    """A description without what changes by itself."""
    return {
        name: value
        for name, value in document.items()
        if name not in _PASSING and not (name.startswith(_COUNTED) and name[len(_COUNTED) :][:1].isupper())
    }


def written(document: Any) -> bytes:
    """As a file: the same for the same description."""
    return f"{_indented(document, chr(10))}\n".encode()


def _indented(value: Any, line: str) -> str:
    """As `json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)`, in less time; `line` begins one."""
    if isinstance(value, str):
        return encode_basestring(value)
    inner = f"{line} "
    if isinstance(value, dict) and value:
        items = [f"{encode_basestring(name)}: {_indented(value[name], inner)}" for name in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{inner}{f',{inner}'.join([_indented(each, inner) for each in value])}{line}]"
    return json.dumps(value)


def digest(document: Any) -> str:
    """The SHA-256 of a description."""
    return sha256(written(document)).hexdigest()


def cut(table: Mapping[str, Any]) -> Document:
    """How a table is partitioned, for a copy of it that no partition of expires from."""
    kept: Document = {name: table[name] for name in ("timePartitioning", "rangePartitioning") if table.get(name)}
    if by_time := kept.get("timePartitioning"):
        kept["timePartitioning"] = {name: value for name, value in by_time.items() if name != "expirationMs"}
    return kept


def made_of(table: Mapping[str, Any]) -> Document:
    """What a copy of a table in another dataset has in common with it."""
    kept: Document = {name: table[name] for name in (*_OF_A_COPY, *_MORE_OF_A_COPY) if table.get(name)}
    kept |= cut(table)
    kept["schema"] = {"fields": _plain(table.get("schema", {}).get("fields", ()), tags=False)}
    return kept


def columns(fields: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What a table's rows are made of, with nothing that leaves them as they are."""
    return [
        [field["name"], field["type"], field.get("mode") or "NULLABLE", columns(field.get("fields", ()))]
        for field in fields
    ]


def _plain(fields: Sequence[Mapping[str, Any]], *, tags: bool) -> list[Document]:
    """Columns as they are written in full; a policy tag may not be allowed elsewhere."""
    told = []
    for field in fields:
        one = {name: value for name, value in field.items() if value not in (None, "", []) and name != "fields"}
        one["mode"] = field.get("mode") or "NULLABLE"
        if not tags:
            one.pop("policyTags", None)
        if field.get("fields"):
            one["fields"] = _plain(field["fields"], tags=tags)
        told.append(one)
    return told


def row_policies(bigquery: BigQuery, dataset: str, table: str) -> list[Document]:
    """Who sees which rows of a table, with those whom it lets; nothing where there are no policies."""
    found = []
    for policy in bigquery.row_policies(dataset, table):
        kept = lasting(policy)
        if "grantees" not in kept:
            kept["grantees"] = bigquery.grantees(dataset, table, policy["rowAccessPolicyReference"]["policyId"])
        found.append(kept)
    return found


def transfers(bigquery: BigQuery) -> list[Document] | None:
    """Scheduled queries and other transfers; None where the service is off, or this login may not see them."""
    try:
        found = [lasting(each) for each in bigquery.transfers()]
    except RefusedError as error:
        if error.status in (403, 404):
            return None
        raise
    return sorted(found, key=lambda each: str(each.get("name", "")))


def file_name(name: str) -> str:
    """A name that a file may have: a table's may be longer than that, and hold what no file's may."""
    told = quote(name, safe="-_ ().,'")
    if len(told) > _LONGEST_NAME or told.startswith("."):
        return f"{told[:_LONGEST_NAME].strip('.')}~{sha256(name.encode()).hexdigest()[:16]}"
    return told
