"""Trees: the JSON of one folder, node for node as restic writes it, and back with nothing taken on trust.

native/src/repository does it; here is what it asks for where names, targets and attributes are not plain ASCII.
"""

import base64
import grp
import pwd
import re
from collections.abc import Sequence

from cto_backups import _native
from cto_backups.core.payloads import Node
from cto_backups.core.trees import Buffer, Entry, EntryKind
from cto_backups.repository.names import json_text, quote

_KINDS = {kind.value: kind for kind in EntryKind}
_NOT_UTF_8 = re.compile("[\udc80-\udcff]")


def decode_tree(plain: Buffer) -> list[Node]:
    """The nodes of a tree. Raises DamageError for anything that does not belong in one, such as a name with a '/'."""
    return _native.decode_tree(plain, Node, Entry, _KINDS)


def content_text(content: Sequence[bytes]) -> str:
    """The ids of a file's blobs as JSON."""
    if not content:
        return "[]"
    return '["' + '","'.join([blob.hex() for blob in content]) + '"]'


def json_name(name: bytes) -> str:
    """A name as a node holds it."""
    return json_text(quote(name))


def account_text(group: bool, number: int) -> str:
    """The name of a user or a group as a member of a node, with a comma in front; empty without one."""
    try:
        if group:
            return f',"group":"{json_text(grp.getgrgid(number).gr_name)}"'
        return f',"user":"{json_text(pwd.getpwuid(number).pw_name)}"'
    except (KeyError, OverflowError):
        return ""


def link_text(target: bytes) -> str:
    """A symbolic link's target as members of a node."""
    try:
        return f',"linktarget":"{json_text(target.decode("utf-8"))}"'
    except UnicodeDecodeError:
        # As Go's encoder: an escaped replacement character for each byte that is not UTF-8.
        readable = _NOT_UTF_8.sub(r"\\ufffd", json_text(target.decode("utf-8", "surrogateescape")))
        return f',"linktarget":"{readable}","linktarget_raw":"{base64.b64encode(target).decode("ascii")}"'


def extended_text(extended: Sequence[tuple[bytes, bytes]]) -> str:
    """Extended attributes as a member of a node."""
    parts = [
        f'{{"name":"{json_text(name.decode("utf-8", "replace"))}","value":"{base64.b64encode(value).decode("ascii")}"}}'
        for name, value in extended
    ]
    return f',"extended_attributes":[{",".join(parts)}]'
