"""Which state of an object is meant, and what proves a copy of it."""

from cto_backups.core.objects import ObjectState, Proof, proof


def test_a_copy_is_proven_by_what_both_tell_and_by_nothing_else() -> None:
    known = {"sha256": "aa", "crc32c": "01"}
    assert proof(known, {"sha256": "aa"}) == Proof(("sha256",), ())
    assert proof(known, {"sha256": "aa"}).holds
    assert not proof(known, {"sha256": "aa", "crc32c": "02"}).holds, "one that differs outweighs one that agrees"
    assert not proof(known, {"md5": "aa"}).holds, "nothing that both tell is no proof"
    assert not proof(known, {"crc32c": "02"}).holds


def test_an_object_is_at_a_store_of_its_own_provider_and_server() -> None:
    there = ObjectState("s3", None, "media", "a/b", 7)
    assert there.place == "s3://media"
    assert there.is_at("s3", None)
    assert there.is_at("s3", "")
    assert not there.is_at("gs", None)
    assert not there.is_at("s3", "https://store.example")
    own = ObjectState("s3", "https://store.example/", "media", "a/b", 7)
    assert own.is_at("s3", "https://store.example")
    assert not own.is_at("s3", None)
