"""Whatever kind a source is of, a backup can limit how long it works there."""

import inspect

import pytest

from cto_backups import registry
from cto_backups.core.ports import Source


@pytest.mark.parametrize("kind", sorted(registry.SOURCES))
def test_every_kind_takes_a_limit_where_it_is_looked_at_and_where_it_is_captured(kind: str) -> None:
    loaded = registry.load(registry.SOURCES, kind)
    adapter = loaded if inspect.isclass(loaded) else inspect.get_annotations(loaded, eval_str=True)["return"]
    for verb in ("discover", "capture"):
        asked, there = (inspect.signature(getattr(each, verb)).parameters for each in (Source, adapter))
        assert list(there) == list(asked), f"{kind}: {verb}"
