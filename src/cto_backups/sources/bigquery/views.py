"""Definitions that name a dataset, for one that comes back under another name: its own tables are those beside it.

Only names are replaced: what stands in texts and comments is left alone, and so are other datasets.
"""

import re
from typing import Final

_TOKENS: Final = r"""
    (?P<other>
        [rRbB]{0,2}(?:'{3}(?:\\.|[^\\])*?'{3}|"{3}(?:\\.|[^\\])*?"{3}|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")
        | --[^\n]* | \#[^\n]* | /\*.*?\*/
    )
    | (?<![\w`.$@-])(?P<open>`?)(?:(?P<project>PROJECT)(?P<between>`?[.:]`?))?DATASET(?P<close>`?\.)
"""


def renamed(statement: str, project: str, dataset: str, name: str) -> str:
    """A statement of SQL in which a dataset of the project bears another name."""
    pattern = _TOKENS.replace("PROJECT", re.escape(project)).replace("DATASET", re.escape(dataset))

    def replaced(match: re.Match[str]) -> str:
        if match["other"] is not None:
            return match[0]
        return f"{match['open']}{match['project'] or ''}{match['between'] or ''}{name}{match['close']}"

    return re.sub(pattern, replaced, statement, flags=re.VERBOSE | re.DOTALL)
