"""The jobs of the front of BigQuery that copy tables: as of a moment, as a snapshot, and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from servers.bigquery_wire import SUFFIX, RefusedError, path_of

if TYPE_CHECKING:
    from servers.bigquery_front import Front


def snapshot(front: "Front", asked: Mapping[str, Any]) -> None:
    source, target = dict(asked["sourceTable"]), asked["destinationTable"]
    moment = SUFFIX.search(source["tableId"])
    source["tableId"] = SUFFIX.sub("", source["tableId"])
    table = front.table(source)
    kept = ("schema", "timePartitioning", "rangePartitioning", "clustering", "labels", "description")
    made = {"tableReference": target, **{name: table[name] for name in kept if name in table}}
    path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables"
    if found := policies(front, source):
        # Whoever sees few rows, copies all: who sees which goes along. The emulator does so without a moment alone.
        front.ask(
            "POST",
            path.partition("/datasets/")[0] + "/jobs",
            {"configuration": {"copy": {"sourceTable": source, "destinationTable": target}}},
        )
        for policy in found:
            named = {**target, "policyId": policy["rowAccessPolicyReference"]["policyId"]}
            sent = {"rowAccessPolicyReference": named, "filterPredicate": policy["filterPredicate"]}
            sent["grantees"] = policy["grantees"]
            front.ask("POST", f"{path}/{quote(target['tableId'])}/rowAccessPolicies", sent)
        told_of(front, source, asked)
        return
    front.ask("POST", path, made)
    of = ""
    if moment is not None and front.time_travels:
        if int(moment[2]) < int(table["creationTime"]):
            raise RefusedError(400, "invalid", f"Invalid time travel timestamp {moment[2]} for table")
        of = f" FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({moment[2]})"
    front.sql(target["projectId"], f"INSERT INTO {path_of(target)} SELECT * FROM {path_of(source)}{of}")
    told_of(front, source, asked)


def copied(front: "Front", asked: Mapping[str, Any]) -> None:
    """A table as of a moment, or what a snapshot holds, into one that is empty, or is made."""
    source, target = dict(asked["sourceTable"]), asked["destinationTable"]
    moment = SUFFIX.search(source["tableId"])
    source["tableId"] = SUFFIX.sub("", source["tableId"])
    try:
        table = front.table(source)
    except RefusedError as error:
        raise RefusedError(error.status, "notFound", f"Not found: Table {source['tableId']}") from error
    of = ""
    if moment is not None:
        if not front.time_travels or int(moment[2]) < int(table["creationTime"]):
            raise RefusedError(400, "invalid", f"Invalid time travel timestamp {moment[2]} for table")
        of = f" FOR SYSTEM_TIME AS OF TIMESTAMP_MILLIS({moment[2]})"
    path = f"/bigquery/v2/projects/{target['projectId']}/datasets/{target['datasetId']}/tables"
    try:
        standing = front.table(target)
    except RefusedError:
        kept = ("schema", "timePartitioning", "rangePartitioning", "clustering", "description")
        front.ask("POST", path, {"tableReference": target, **{name: table[name] for name in kept if name in table}})
    else:
        names = [[each["name"] for each in one["schema"]["fields"]] for one in (table, standing)]
        if names[0] != names[1]:
            raise RefusedError(400, "invalid", "Provided Schema does not match Table")
        if front.sql(target["projectId"], f"SELECT COUNT(*) FROM {path_of(target)}")[0]["f"][0]["v"] != "0":
            raise RefusedError(409, "duplicate", f"Already Exists: Table {target['tableId']}")
    front.sql(target["projectId"], f"INSERT INTO {path_of(target)} SELECT * FROM {path_of(source)}{of}")


def policies(front: "Front", source: Mapping[str, str]) -> list[Any]:
    path = f"/bigquery/v2/projects/{source['projectId']}/datasets/{source['datasetId']}/tables/"
    try:
        found = front.ask("GET", f"{path}{quote(source['tableId'])}/rowAccessPolicies")
    except RefusedError:
        return []  # an emulator that has none
    return list(found.get("rowAccessPolicies") or ())


def told_of(front: "Front", source: Mapping[str, str], asked: Mapping[str, Any]) -> None:
    target = asked["destinationTable"]
    told: dict[str, Any] = {"type": "SNAPSHOT", "snapshotDefinition": {"baseTableReference": source}}
    if "destinationExpirationTime" in asked:
        told["expirationTime"] = asked["destinationExpirationTime"]
    front.snapshots[target["projectId"], target["datasetId"], target["tableId"]] = told
