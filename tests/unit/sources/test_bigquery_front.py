"""The front of tests writes and reads Avro as BigQuery documents it: judged by a file that was put together by hand.

Its bytes are written down here one by one, from the specification of Avro and from the table of types in
https://cloud.google.com/bigquery/docs/exporting-data#avro_export_details; no library had a part in it.
"""

import json
import struct
from pathlib import Path
from typing import Any

import fastavro

from cto_backups.sources.bigquery.avro import AvroRows
from servers import bigquery_avro, bigquery_jobs

GOLDEN = Path(__file__).parents[2] / "golden" / "bigquery" / "all-types.avro"
SYNC = bytes(range(16))

FIELDS: list[dict[str, Any]] = [
    {"name": "i", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "flag", "type": "BOOLEAN", "mode": "NULLABLE"},
    {"name": "raw", "type": "BYTES"},
    {"name": "f", "type": "FLOAT"},
    {"name": "s", "type": "STRING"},
    {"name": "n", "type": "NUMERIC"},
    {"name": "bn", "type": "BIGNUMERIC"},
    {"name": "d", "type": "DATE"},
    {"name": "t", "type": "TIME"},
    {"name": "ts", "type": "TIMESTAMP"},
    {"name": "dt", "type": "DATETIME"},
    {"name": "g", "type": "GEOGRAPHY"},
    {"name": "j", "type": "JSON"},
    {
        "name": "r",
        "type": "RECORD",
        "fields": [{"name": "x", "type": "INTEGER"}, {"name": "y", "type": "STRING", "mode": "REPEATED"}],
    },
    {"name": "rr", "type": "RECORD", "mode": "REPEATED", "fields": [{"name": "k", "type": "STRING"}]},
]
SCHEMA = """{"type":"record","name":"Root","fields":[
{"name":"i","type":"long"},
{"name":"flag","type":["null","boolean"]},
{"name":"raw","type":["null","bytes"]},
{"name":"f","type":["null","double"]},
{"name":"s","type":["null","string"]},
{"name":"n","type":["null",{"type":"bytes","logicalType":"decimal","precision":38,"scale":9}]},
{"name":"bn","type":["null",{"type":"bytes","logicalType":"decimal","precision":77,"scale":38}]},
{"name":"d","type":["null",{"type":"int","logicalType":"date"}]},
{"name":"t","type":["null",{"type":"long","logicalType":"time-micros"}]},
{"name":"ts","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
{"name":"dt","type":["null",{"type":"string","logicalType":"datetime"}]},
{"name":"g","type":["null",{"type":"string","sqlType":"GEOGRAPHY"}]},
{"name":"j","type":["null",{"type":"string","sqlType":"JSON"}]},
{"name":"r","type":["null",{"type":"record","namespace":"root","name":"R","fields":[
{"name":"x","type":["null","long"]},{"name":"y","type":{"type":"array","items":"string"}}]}]},
{"name":"rr","type":{"type":"array","items":{"type":"record","namespace":"root","name":"Rr","fields":[
{"name":"k","type":["null","string"]}]}}}]}"""

FULL = (
    b"\x05"  # -3, zigzag
    b"\x02\x01"  # the second of the union; true
    b"\x02\x04\x00\xff" + b"\x02" + struct.pack("<d", 0.5) + b"\x02\x04\xc3\xbc"  # two bytes  # ü
    b"\x02\x08\xa6\x97\xd1\x00"  # -1.5 as -1500000000, in two's complement, the highest byte first
    b"\x02\x02\x01"  # 1e-38
    b"\x02\x02"  # the day after 1970-01-01
    b"\x02\x02"  # a microsecond after midnight
    b"\x02\x01"  # a microsecond before 1970
    b"\x02\x342024-01-02T03:04:05.000006"
    b"\x02\x14POINT(1 2)"
    b'\x02\x0e{"a":1}'
    b"\x02\x00\x04\x02a\x02b\x00"  # a record: null, and an array of two, which ends with a block of none
    b"\x02\x02\x02k\x00"  # an array of one record
)
EMPTY = b"\x08" + b"\x00" * 12 + b"\x00" + b"\x00"
"""4, and nothing else: thirteen nulls, and an array of none."""

ROWS: list[dict[str, Any]] = [
    {
        "f": [
            *({"v": each} for each in ("-3", "true", "AP8=", "0.5", "ü", "-1.5", "0." + "0" * 37 + "1")),
            *({"v": each} for each in ("1970-01-02", "00:00:00.000001", "-0.000001", "2024-01-02T03:04:05.000006")),
            *({"v": each} for each in ("POINT(1 2)", '{"a":1}')),
            {"v": {"f": [{"v": None}, {"v": [{"v": "a"}, {"v": "b"}]}]}},
            {"v": [{"v": {"f": [{"v": "k"}]}}]},
        ]
    },
    {"f": [{"v": "4"}, *({"v": None} for _ in range(13)), {"v": []}]},
]


def number(value: int) -> bytes:
    """A number as Avro writes it."""
    value, told = (value << 1) ^ (value >> 63), b""
    while value > 0x7F:
        told, value = told + bytes([value & 0x7F | 0x80]), value >> 7
    return told + bytes([value])


def by_hand() -> bytes:
    text = SCHEMA.replace("\n", "").encode()
    settings = b"".join(number(len(part)) + part for part in (b"avro.schema", text, b"avro.codec", b"null"))
    body = FULL + EMPTY
    return b"Obj\x01" + number(2) + settings + number(0) + SYNC + number(2) + number(len(body)) + body + SYNC


def test_the_golden_file_is_what_is_written_down_here() -> None:
    assert GOLDEN.read_bytes() == by_hand()


def test_an_extract_has_the_documented_schema_and_the_very_bytes() -> None:
    content = bigquery_avro.written(FIELDS, ROWS, "null")
    assert fastavro.schema.to_parsing_canonical_form(bigquery_avro.schema_in(content)) == (
        fastavro.schema.to_parsing_canonical_form(json.loads(SCHEMA))
    )
    assert bigquery_avro.avro_schema(FIELDS) == json.loads(SCHEMA)
    assert FULL + EMPTY in content


def test_a_load_reads_the_golden_file_as_it_was_meant() -> None:
    full, empty = bigquery_avro.read(GOLDEN.read_bytes())
    assert full == {
        "i": -3,
        "flag": True,
        "raw": "AP8=",
        "f": 0.5,
        "s": "ü",
        "n": "-1.500000000",
        "bn": "0." + "0" * 37 + "1",
        "d": "1970-01-02",
        "t": "00:00:00.000001",
        "ts": "1969-12-31T23:59:59.999999Z",
        "dt": "2024-01-02T03:04:05.000006",
        "g": "POINT(1 2)",
        "j": '{"a":1}',
        "r": {"x": None, "y": ["a", "b"]},
        "rr": [{"k": "k"}],
    }
    assert empty["i"] == 4
    assert empty["rr"] == []
    assert {value for name, value in empty.items() if name not in ("i", "rr")} == {None}


def test_rows_of_the_golden_file_are_counted() -> None:
    counted = AvroRows()
    counted.add(memoryview(GOLDEN.read_bytes()))
    counted.end()
    assert counted.rows == 2


def _job(name: str, created: int, state: str = "DONE", **more: Any) -> dict[str, Any]:
    status = {"state": state, **more}
    statistics = {"creationTime": str(created), "copy": {}}
    return {"jobReference": {"jobId": name}, "configuration": {"copy": {}}, "statistics": statistics, "status": status}


def _names(answer: Any) -> list[str]:
    return [each["jobReference"]["jobId"] for each in answer.get("jobs", ())]


def test_jobs_are_listed_the_latest_first_by_state_and_moment_a_page_at_a_time() -> None:
    """https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/list."""
    jobs = [_job("b", 20), _job("a", 10), _job("c", 30, "RUNNING"), _job("d", 40, "PENDING")]
    assert _names(bigquery_jobs.listed(jobs, {})) == ["d", "c", "b", "a"]
    assert _names(bigquery_jobs.listed(jobs, {"stateFilter": ["done"]})) == ["b", "a"]
    assert _names(bigquery_jobs.listed(jobs, {"stateFilter": ["running", "pending"]})) == ["d", "c"]
    assert _names(bigquery_jobs.listed(jobs, {"minCreationTime": ["20"], "maxCreationTime": ["30"]})) == ["c", "b"]
    page = bigquery_jobs.listed(jobs, {"maxResults": ["3"]})
    assert _names(page) == ["d", "c", "b"]
    rest = bigquery_jobs.listed(jobs, {"maxResults": ["3"], "pageToken": [page["nextPageToken"]]})
    assert (_names(rest), "nextPageToken" in rest) == (["a"], False)


def test_a_list_of_jobs_says_little_of_each_unless_all_is_asked_for() -> None:
    (told,) = bigquery_jobs.listed([_job("a", 10, errorResult={"reason": "invalid"})], {})["jobs"]
    assert "configuration" not in told and "status" not in told
    assert (told["state"], told["errorResult"]["reason"]) == ("DONE", "invalid")
    assert told["statistics"]["creationTime"] == "10"
    (full,) = bigquery_jobs.listed([_job("a", 10)], {"projection": ["full"]})["jobs"]
    assert full["configuration"] and full["status"]["state"] == "DONE"


def test_a_job_that_is_under_way_says_nothing_of_what_becomes_of_it() -> None:
    told = bigquery_jobs.running(_job("a", 10, errorResult={"reason": "invalid"}))
    assert told["status"] == {"state": "RUNNING"}
    assert told["statistics"] == {"creationTime": "10"}
