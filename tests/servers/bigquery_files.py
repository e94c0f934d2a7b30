"""The jobs of the front of BigQuery that write files and read them: Avro in a bucket, by the documented mapping."""

import base64
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import urlopen

from servers import bigquery_avro
from servers.bigquery_wire import SUFFIX, RefusedError, insert_rows, path_of

if TYPE_CHECKING:
    from servers.bigquery_front import Front


def extract(front: "Front", asked: Mapping[str, Any]) -> Any:
    source = dict(asked["sourceTable"])
    assert asked["destinationFormat"] == "AVRO" and asked["useAvroLogicalTypes"], asked
    assert asked["compression"] == "SNAPPY", asked
    partition = SUFFIX.search(source["tableId"])
    source["tableId"] = SUFFIX.sub("", source["tableId"])
    table = front.table(source)
    fields = table["schema"]["fields"]
    rows = front.sql(source["projectId"], f"SELECT * FROM {path_of(source)}")
    if partition is not None and partition[1] is not None:
        rows = [row for row in rows if bigquery_avro.partition_of(table, row) == partition[1]]
    rows = rows[: len(rows) - front.lost_rows]
    (uri,) = asked["destinationUris"]
    assert uri.count("*") == 1, "more than 1 GB needs a wildcard"
    bucket, _, pattern = uri.removeprefix("gs://").partition("/")
    shards: list[list[Any]] = [[]]
    size = 0
    for row in rows:
        if size >= front.shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(row)
        size += len(json.dumps(row))
    for number, shard in enumerate(shards):
        content = bigquery_avro.written(fields, shard, front.codec)
        front.store.put(bucket, pattern.replace("*", f"{number:012}"), content)
    return {
        "destinationUriFileCounts": [str(len(shards))],
        "inputBytes": str(sum(len(json.dumps(r)) for r in rows)),
    }


def load(front: "Front", asked: Mapping[str, Any]) -> Any:
    assert asked["sourceFormat"] == "AVRO" and asked["useAvroLogicalTypes"], asked
    target = dict(asked["destinationTable"])
    target["tableId"] = SUFFIX.sub("", target["tableId"])
    names = {field["name"] for field in front.table(target)["schema"]["fields"]}
    path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables/{target['tableId']}"
    rows: list[Any] = []
    files = 0
    for uri in asked["sourceUris"]:
        bucket, _, pattern = uri.removeprefix("gs://").partition("/")
        prefix = pattern.partition("*")[0]
        listed = front.store.ask("GET", f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}").get("items", ())
        found = [each["name"] for each in listed if fnmatchcase(each["name"], pattern)]
        if not found:
            raise RefusedError(404, "notFound", f"Not found: URI {uri}")
        for name in found:
            files += 1
            link = f"{front.store.endpoint}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
            with urlopen(link, timeout=60) as answer:
                content = answer.read()
            try:
                rows += bigquery_avro.read(content)
            except Exception as error:
                raise RefusedError(400, "invalid", f"The Apache Avro library failed to read: {error}") from error
    if not front.time_travels:  # nor does that one decode bytes
        texts = [each["name"] for each in front.table(target)["schema"]["fields"] if each["type"] == "BYTES"]
        rows = [
            {**row, **{each: base64.b64decode(row[each]).decode() for each in texts if row[each] is not None}}
            for row in rows
        ]
    if rows and not rows[0].keys() <= names:
        raise RefusedError(400, "invalid", f"Provided Schema does not match Table: {sorted(rows[0].keys() - names)}")
    insert_rows(front, path, rows)
    return {"inputFiles": str(files), "outputRows": str(len(rows)), "badRecords": "0"}
