"""All that an extract loses, made again once the tables are there: routines, views, who sees which rows, who may what.

What rests on something else is tried again after it; what cannot be made at all is told, and its definition stays in
the point.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from cto_backups.core.wording import counted
from cto_backups.providers.google import RefusedError
from cto_backups.sources.bigquery.client import BigQuery, Document
from cto_backups.sources.bigquery.point import StoredTable, described
from cto_backups.sources.bigquery.views import renamed

_VIEW: Final = (
    *("schema", "view", "materializedView", "externalDataConfiguration", "description", "friendlyName", "labels"),
    *("clustering", "timePartitioning", "rangePartitioning", "maxStaleness"),
)
_ROUTINE: Final = (
    *("routineType", "language", "arguments", "returnType", "returnTableType", "importedLibraries", "definitionBody"),
    *("description", "determinismLevel", "strictMode", "remoteFunctionOptions", "sparkOptions", "dataGovernanceType"),
)
_POLICY: Final = ("filterPredicate", "grantees")

_Making = tuple[str, Callable[[], None]]


def make_beside(bigquery: BigQuery, folder: Path, former: str, name: str, tables: Sequence[StoredTable]) -> list[str]:
    """Make what lies in a dataset's folder, in the dataset `name`; what could not be made. Raises RestoreError.

    `tables` are there already; `former` is what the dataset was called.
    """

    def anew(statement: str) -> str:
        return statement if former == name else renamed(statement, bigquery.project, former, name)

    waiting: list[_Making] = []
    notes = []
    for routine in described(folder / "routines"):
        waiting.append((f"routine {_of(routine)}", partial(bigquery.make_routine, name, _routine(routine, name, anew))))
    for view in described(folder / "views"):
        told = f"{view['type'].lower().replace('_', ' ')} {_of(view)}"
        made = _view(view, name, anew)
        if made is None:
            notes.append(f"{told} was not made again: it holds nothing of its own that a point has")
        else:
            waiting.append((told, partial(bigquery.make_table, name, made)))
    for table in tables:
        for policy in table.definition.get("rowAccessPolicies") or ():
            told = f"row access policy of {table.name}"
            waiting.append((told, partial(_policy, bigquery, name, table.name, policy)))
    return [*notes, *_made(waiting)]


def access_note(dataset: Document) -> list[str]:
    """Who may do what is no part of a dataset that comes back: that is for people to say."""
    entries = dataset.get("access") or ()
    if not entries:
        return []
    return [
        f"{counted(len(entries), 'entry', 'entries')} of who may do what in {dataset['datasetReference']['datasetId']}"
        " are in dataset.json of the point; the new dataset has those of its project"
    ]


def _made(waiting: list[_Making]) -> list[str]:
    """Make each as soon as it can be; what never could, and why."""
    while waiting:
        left: list[_Making] = []
        why = {}
        for told, make in waiting:
            try:
                make()
            except RefusedError as error:
                left.append((told, make))
                why[told] = error.message
        if len(left) == len(waiting):
            return [f"{told} was not made again: {why[told]}" for told, _ in left]
        waiting = left
    return []


def _of(document: Document) -> str:
    reference = document.get("tableReference") or document["routineReference"]
    return str(reference.get("tableId") or reference["routineId"])


def _view(document: Document, dataset: str, anew: Callable[[str], str]) -> Document | None:
    made: Document = {each: document[each] for each in _VIEW if document.get(each)}
    for kind in ("view", "materializedView"):
        if kind in made:
            made[kind] = {**made[kind], "query": anew(made[kind]["query"])}
            made.pop("schema", None)  # it follows from the query
            if kind == "view":
                for other in ("clustering", "timePartitioning", "rangePartitioning"):
                    made.pop(other, None)
    if not {"view", "materializedView", "externalDataConfiguration"} & made.keys():
        return None
    return {**made, "tableReference": {**document["tableReference"], "datasetId": dataset}}


def _routine(document: Document, dataset: str, anew: Callable[[str], str]) -> Document:
    made: dict[str, Any] = {each: document[each] for each in _ROUTINE if document.get(each)}
    if made.get("language", "SQL") == "SQL":
        made["definitionBody"] = anew(made["definitionBody"])
    return {**made, "routineReference": {**document["routineReference"], "datasetId": dataset}}


def _policy(bigquery: BigQuery, dataset: str, table: str, document: Document) -> None:
    named = bigquery.reference(dataset, table) | {"policyId": document["rowAccessPolicyReference"]["policyId"]}
    made = {each: document[each] for each in _POLICY if document.get(each)}
    bigquery.make_row_policy(dataset, table, {**made, "rowAccessPolicyReference": named})
