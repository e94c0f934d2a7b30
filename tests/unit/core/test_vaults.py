from cto_backups.core.vaults import StoreAddress, Summed, is_lock, lock_folders, requests_at_once


def test_what_is_stored_lies_below_the_prefix():
    assert StoreAddress("bucket", "office/main", "r").key("data/ab") == "office/main/data/ab"
    assert StoreAddress("bucket", "office/main", "r").key("") == "office/main/"
    assert StoreAddress("bucket", "", "r").key("data/ab") == "data/ab"
    assert StoreAddress("bucket", "", "r").key("") == ""


def test_no_login_is_shown():
    assert "login" not in repr(StoreAddress("bucket", "", "r", logins={"secret_key": lambda: "hunter2"}))


def test_a_vault_is_asked_one_thing_at_a_time_unless_it_says_otherwise():
    class Folder:
        pass

    class Bucket:
        requests_at_once = 8

    assert (requests_at_once(Folder()), requests_at_once(Bucket())) == (1, 8)


def test_parts_with_a_sum_are_parts_like_others():
    made = Summed.of([b"one", memoryview(b"two")], b"\x01" * 32)
    assert b"".join(made) == b"onetwo"
    assert made.sha256 == b"\x01" * 32


def test_a_lock_of_a_repository_is_told_from_what_only_has_its_name():
    assert is_lock("repositories/main/locks/ab")
    assert not is_lock("repositories/main/data/locks")
    assert not is_lock("records/locks")


def test_locks_lie_in_a_repository_and_in_the_exports_beside_it():
    assert lock_folders("repositories/main") == ("repositories/main/locks/", "exports/main/locks/")
    assert lock_folders("main") == ("main/locks/", "exports/main/locks/")
    assert lock_folders(".") == ("locks/", "exports/main/locks/")
    assert all(is_lock(f"{folder}0a") for folder in lock_folders("repositories/main"))
