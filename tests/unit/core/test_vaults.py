from cto_backups.core.vaults import StoreAddress


def test_what_is_stored_lies_below_the_prefix():
    assert StoreAddress("bucket", "office/main", "r").key("data/ab") == "office/main/data/ab"
    assert StoreAddress("bucket", "office/main", "r").key("") == "office/main/"
    assert StoreAddress("bucket", "", "r").key("data/ab") == "data/ab"
    assert StoreAddress("bucket", "", "r").key("") == ""


def test_no_login_is_shown():
    assert "login" not in repr(StoreAddress("bucket", "", "r", logins={"secret_key": lambda: "hunter2"}))
