"""A bare mirror of a repository, kept between captures so that only what is new is fetched."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from cto_backups.errors import SourceError
from cto_backups.process import ToolError
from cto_backups.sources.git import objects
from cto_backups.sources.git.command import Git, refusal
from cto_backups.sources.staging import make_private

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository says it has: object by ref, and HEAD's ref or, when detached, object."""

    refs: dict[bytes, bytes]
    head_ref: bytes | None
    head_object: bytes | None

    @property
    def detached(self) -> bool:
        """Whether HEAD stands for a commit rather than a branch."""
        return self.head_ref is None and self.head_object is not None


class Mirror:
    """A bare repository in `folder` that equals the source at one moment after each `update`."""

    def __init__(self, name: str, git: Git, folder: Path) -> None:
        self._name = name
        self._git = git
        self._url = git.place.url
        self.folder = folder

    def update(self) -> bool:
        """Bring the mirror to what the source has now; false when the source kept changing meanwhile.

        Raises SourceError: unreachable, not a repository, or suddenly empty.
        """
        for _ in range(_ATTEMPTS):
            before = self.listing()
            self._refuse_loss(before)
            self._fetch(before)
            after = self.listing()
            if self._equals(after) or (self._equals(before) and before == after):
                return True
        return False

    def listing(self) -> Listing:
        """What the source has now. Raises SourceError."""
        try:
            answer = self._git.remote("ls-remote", "--symref", *self._git.upload_pack, "--", self._url)
        except ToolError as error:
            raise refusal(self._name, self._git.place, error) from error
        refs: dict[bytes, bytes] = {}
        head_ref = head_object = None
        for line in answer.splitlines():
            value, _, ref = line.partition(b"\t")
            if value.startswith(b"ref: "):
                head_ref = value[5:] if ref == b"HEAD" else head_ref
            elif ref == b"HEAD":
                head_object = value
            elif not ref.endswith(b"^{}"):
                refs[ref] = value
        return Listing(refs, head_ref, head_object)

    def make_anew(self) -> None:
        """Forget a mirror that is damaged, so that the next update fetches everything."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.folder.unlink(missing_ok=True)

    def fetch_lfs(self) -> str | None:
        """Fetch every LFS object of the whole history; what went wrong, if something did."""
        try:
            self._git.remote("lfs", "fetch", "--all", "origin", folder=self.folder)
        except ToolError as error:
            return error.detail
        return None

    def _refuse_loss(self, listing: Listing) -> None:
        if listing.refs or not self.folder.exists():
            return
        try:
            had = len(objects.refs(self._git, self.folder))
        except ToolError:
            return
        if had:
            raise SourceError(
                f"source {self._name}: {self._url} says that it is empty",
                why=f"it had {had} refs before; an empty listing is a failure, never a deletion",
                todo=f"look at the repository; if it really was emptied, remove {self.folder}",
            )

    def _fetch(self, listing: Listing) -> None:
        fresh = self._prepare(listing)
        try:
            self._fetch_refs(listing)
        except ToolError as error:
            if fresh or self._sound():
                raise refusal(self._name, self._git.place, error) from error
            self.make_anew()
            self._prepare(listing)
            try:
                self._fetch_refs(listing)
            except ToolError as again:
                raise refusal(self._name, self._git.place, again) from again

    def _fetch_refs(self, listing: Listing) -> None:
        specs = ["+refs/*:refs/*"] if listing.refs else []
        if listing.detached:
            specs.append("HEAD")
        if specs:
            self._git.remote(
                "fetch",
                "--quiet",
                "--prune",
                "--force",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-recurse-submodules",
                "--update-shallow",
                *self._git.upload_pack,
                "origin",
                *specs,
                folder=self.folder,
            )
        if self._has_head(listing):
            return
        if listing.head_ref is not None:
            self._git.local(self.folder, "symbolic-ref", "HEAD", listing.head_ref.decode())
        elif listing.head_object is not None:
            self._git.local(self.folder, "update-ref", "--no-deref", "HEAD", listing.head_object.decode())

    def _prepare(self, listing: Listing) -> bool:
        """Make the mirror if there is none, or none that git knows as one; whether it is new."""
        fresh = False
        try:
            self._git.local(self.folder, "rev-parse", "--git-dir")
            self._clear_locks()
        except ToolError:
            self.make_anew()
            fresh = True
            longest = max((len(value) for value in listing.refs.values()), default=40)
            kind = "sha256" if longest == 64 else "sha1"
            make_private(self.folder.parent)
            try:
                self._git.local(
                    self.folder, "init", "--bare", "--quiet", "--template=", f"--object-format={kind}", str(self.folder)
                )
            except ToolError as error:
                raise SourceError(
                    f"source {self._name}: the mirror {self.folder} cannot be made",
                    why=error.detail,
                    todo="make room there, and let this user write to it",
                ) from error
        self._name_origin()
        return fresh

    def _name_origin(self) -> None:
        try:
            named = self._git.local(self.folder, "config", "--get", "remote.origin.url").decode().rstrip("\n")
        except ToolError:
            named = ""
        if named != self._url:
            self._git.local(self.folder, "config", "remote.origin.url", self._url)

    def _clear_locks(self) -> None:
        """Remove what a killed fetch left; nobody else uses the mirror."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/??/tmp_obj_*"):
            for left in self.folder.glob(pattern):
                left.unlink(missing_ok=True)

    def _sound(self) -> bool:
        try:
            self._git.local(self.folder, "rev-list", "--objects", "--all", "--quiet")
        except ToolError:
            return False
        return True

    def _equals(self, listing: Listing) -> bool:
        return objects.refs(self._git, self.folder) == listing.refs and self._has_head(listing)

    def _has_head(self, listing: Listing) -> bool:
        head = objects.head_of(self.folder)
        if listing.head_ref is not None:
            return head == b"ref: " + listing.head_ref
        return listing.head_object is None or head == listing.head_object
