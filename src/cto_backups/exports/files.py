"""The stored files of a store of exports, and which object holds which content."""

from collections.abc import Iterable, Iterator, Sequence

from cto_backups.core.vaults import Vault
from cto_backups.exports import layout
from cto_backups.exports.layout import PARTS, SEALED_PART
from cto_backups.exports.view import ObjectsView
from cto_backups.repository.index import BlobKind, Index, PackedBlob
from cto_backups.repository.seal import OVERHEAD, Sealer
from cto_backups.repository.stored import StoredFiles


class ExportFiles(StoredFiles):
    """Stored files of which the packs are a view of objects."""

    def __init__(self, vault: Vault, prefix: str, sealer: Sealer) -> None:
        self.view = ObjectsView(vault, prefix, sealer)
        super().__init__(self.view, prefix, sealer)

    def companions(self, listed: Iterable[bytes], strays: Iterable[bytes]) -> list[bytes]:
        """The strays that are sections of objects of which another section is listed: they go together, or stay."""
        objects = {layout.section_of(name).object for name in listed if self.view.is_object(name)}
        return [name for name in strays if self.view.is_object(name) and layout.section_of(name).object in objects]

    def named_by_digest(self, pack: bytes) -> bool:
        """Whether a pack's name is the SHA-256 of its bytes: of objects it is not."""
        return not self.view.is_object(pack)

    def reads_alike(self, pack: bytes) -> bool:
        """Whether the bytes of a pack are the same each time: those of objects are sealed as they are read."""
        return not self.view.is_object(pack)


def listed_as(name: str, sizes: Sequence[int], ids: Sequence[bytes]) -> Iterator[tuple[bytes, list[PackedBlob]]]:
    """The sections of an object, as an index lists them: by the sizes and ids of its parts."""
    for number, pack in enumerate(layout.section_names(name, sum(sizes))):
        first = number * PARTS
        parts = zip(sizes[first : first + PARTS], ids[first : first + PARTS], strict=True)
        yield (
            pack,
            [
                PackedBlob(BlobKind.DATA, one, place * SEALED_PART, size + OVERHEAD, 0)
                for place, (size, one) in enumerate(parts)
            ],
        )


class Candidates:
    """The objects that begin with the parts seen so far. `sections` are the numbers of those packs, of each."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._count = 0
        self.objects: dict[str, list[int]] = {}

    def narrow(self, part: bytes) -> bool:
        """Keep those that go on with this part; whether there are any. What they were before is kept otherwise."""
        number, place = divmod(self._count, PARTS)
        found: dict[str, list[int]] = {}
        for there in self._index.locate(BlobKind.DATA, part):
            if there.offset != place * SEALED_PART:
                continue
            pack = self._index.pack_name(there.pack)
            section = layout.section_of(pack)
            if not layout.is_random(pack) or section.start != number * layout.SECTION:
                continue
            before = self.objects.get(section.object)
            if number == 0 and place == 0:
                found[section.object] = [there.pack]
            elif before is not None:
                found[section.object] = before if there.pack == before[-1] else [*before, there.pack]
        if not found:
            return False
        self.objects = found
        self._count += 1
        return True

    def whole(self, view: ObjectsView, size: int) -> str | None:
        """Of these the one that is just so large: it ends where the parts seen so far do."""
        return next((name for name in self.objects if view.has_size(name, size)), None)


def object_of(index: Index, view: ObjectsView, content: Sequence[bytes]) -> tuple[str, list[int]] | None:
    """The object of just this content, and the numbers of its packs; None when it has no object of its own."""
    if len(content) == 1:
        for place in index.locate(BlobKind.DATA, content[0]):
            if index.pack_name(place.pack) == content[0] and view.is_object(content[0]):
                return content[0].hex(), [place.pack]
    found = Candidates(index)
    if not content or not all(found.narrow(part) for part in content):
        return None
    last = index.locate(BlobKind.DATA, content[-1])[0].length - OVERHEAD
    name = found.whole(view, (len(content) - 1) * layout.PART + last)
    return None if name is None else (name, found.objects[name])
