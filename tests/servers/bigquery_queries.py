"""The queries that the front of BigQuery answers itself: partitions, what was added to a table, columns as text."""

import json
import re
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from servers import bigquery_avro, bigquery_texts
from servers.bigquery_wire import RefusedError, insert_rows

if TYPE_CHECKING:
    from servers.bigquery_front import Front

NAMED = re.compile(r"`[^`.]+\.[^`.]+\.[^`.]+`")
"""A table in a statement."""


def select_into(front: "Front", project: str, statement: str, target: Mapping[str, str]) -> None:
    """The rows of a query, into a new table: as `sources.bigquery.as_text` asks for it."""
    match = NAMED.search(statement)
    assert match, statement
    _, dataset, name = match[0].strip("`").split(".")
    fields = front.table({"projectId": project, "datasetId": dataset, "tableId": name})["schema"]["fields"]
    if front.time_travels:
        found = [bigquery_texts.texts(fields, row) for row in front.sql(project, bigquery_texts.uncast(statement))]
    else:
        found = front.sql(project, statement)  # that one casts by itself
    columns = bigquery_texts.as_strings(fields)
    path = f"/bigquery/v2/projects/{project}/datasets/{target['datasetId']}/tables"
    front.ask("POST", path, {"tableReference": target, "schema": {"fields": columns}})
    insert_rows(front, f"{path}/{target['tableId']}", bigquery_texts.rows(columns, found))


def appends(front: "Front", asked: Mapping[str, Any], target: Mapping[str, str]) -> bool:
    """What was added to a table, into a new one; whether that was asked."""
    try:
        told = front.history.told(asked["query"])
    except ValueError as error:
        raise RefusedError(400, "invalidQuery", str(error)) from error
    if told is None:
        return False
    project, dataset, name = told[0].split(".")
    schema = front.table({"projectId": project, "datasetId": dataset, "tableId": name})["schema"]
    cut = {name: asked[name] for name in ("timePartitioning", "rangePartitioning") if name in asked}
    path = f"/bigquery/v2/projects/{project}/datasets/{target['datasetId']}/tables"
    front.ask("POST", path, {"tableReference": target, "schema": schema, **cut})
    insert_rows(front, f"{path}/{target['tableId']}", told[1])
    return True


def read_texts(front: "Front", project: str, match: re.Match[str]) -> int:
    """Rows of a table with texts, into one with the columns themselves; how many."""
    target, source = match[1].split("."), match[4].split(".")
    columns, fields = (
        front.table({"projectId": project, "datasetId": each[1], "tableId": each[2]})["schema"]["fields"]
        for each in (source, target)
    )
    found = front.sql(project, f"SELECT {bigquery_texts.uncast(match[3])} FROM `{match[4]}`")
    try:
        rows = [bigquery_texts.values(fields, row) for row in bigquery_texts.rows(columns, found)]
    except ValueError as error:
        raise RefusedError(400, "invalidQuery", str(error)) from error
    insert_rows(front, f"/bigquery/v2/projects/{project}/datasets/{target[1]}/tables/{target[2]}", rows)
    return len(rows)


def partitions(front: "Front", project: str, dataset: str) -> Any:
    """A partition changed last when its rows were found to be others than before."""
    columns = ("table_name", "partition_id", "total_rows", "total_logical_bytes", "last_modified_time")
    rows = []
    path = f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables"
    for listed in front.ask("GET", path).get("tables", ()):
        if listed["type"] != "TABLE":
            continue
        reference = listed["tableReference"]
        table = front.table(reference)
        inside: dict[str | None, list[str]] = {}
        partitioned = "timePartitioning" in table or "rangePartitioning" in table
        if not partitioned:
            inside[None] = []
        for row in front.ask("GET", f"{path}/{quote(reference['tableId'])}/data?maxResults=100000").get("rows") or ():
            inside.setdefault(bigquery_avro.partition_of(table, row) if partitioned else None, []).append(
                json.dumps(row)
            )
        for name, found in inside.items():
            digest = sha256("".join(sorted(found)).encode()).hexdigest()
            key = (project, dataset, reference["tableId"], table["creationTime"], str(name))
            if front.changed.get(key, ("", 0))[0] != digest:
                front.changed[key] = digest, int(time.time() * 1_000_000)
            size = str(sum(map(len, found)))
            cells = (reference["tableId"], name, str(len(found)), size, str(front.changed[key][1]))
            rows.append({"f": [{"v": cell} for cell in cells]})
    kinds = ("STRING", "STRING", "INTEGER", "INTEGER", "TIMESTAMP")
    schema = {"fields": [{"name": name, "type": kind} for name, kind in zip(columns, kinds, strict=True)]}
    return {"schema": schema, "rows": rows, "totalRows": str(len(rows)), "totalBytesProcessed": "10485760"}
