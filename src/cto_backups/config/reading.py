"""Reading backups.yaml: bytes, text, tree, models, policy. All mistakes that can be seen together are told together."""

import hashlib
from pathlib import Path

from pydantic import ValidationError

from cto_backups.config import document, models
from cto_backups.config.explaining import explain, find
from cto_backups.config.fields import Surroundings
from cto_backups.config.mistakes import Mistake, PolicyMistakesError
from cto_backups.config.page import Page
from cto_backups.config.resolving import Misfit, resolve
from cto_backups.config.secrets import SecretReference
from cto_backups.config.settings import Configuration, Settings
from cto_backups.core.defaults import CATEGORIES, CLASSES
from cto_backups.errors import NotFoundError, PolicyError

VERSION = 1
LARGEST_BYTES = 16 * 1024 * 1024


def read(path: Path) -> Configuration:
    """Read a policy file. Raises NotFoundError when there is none, PolicyError with every mistake in it."""
    path = path.absolute()
    return parse(_bytes(path), path)


def parse(raw: bytes, path: Path) -> Configuration:
    """What `raw` says as the content of the policy file at `path`; no file is opened. Raises PolicyError."""
    text = _decode(raw, path)
    root = _tree(text, path)
    page = Page(text, root)
    _check_version(root, path)
    around = Surroundings(
        vaults=_declared(root, "vaults"),
        categories=_declared(root, "categories") | CATEGORIES.keys(),
        classes=_declared(root, "classes") | CLASSES.keys(),
    )
    try:
        file = models.PolicyFile.model_validate(root.plain(), context=around)
    except ValidationError as error:
        raise PolicyMistakesError(path, explain(error.errors(include_url=False), root, page)) from None
    home = path.parent
    policy, misfits = resolve(file, home, hashlib.sha256(raw).hexdigest())
    if misfits:
        raise PolicyMistakesError(path, [_told(misfit, root, page) for misfit in misfits])
    settings = Settings(
        home=home,
        catalog_url=f"sqlite:{home / Path(file.catalog.partition(':')[2]).expanduser()}",
        state=home / Path(file.state).expanduser(),
        repository_key=SecretReference.parse(file.keys.repository),
        evidence_key=SecretReference.parse(file.keys.evidence),
        compression=file.compression,
        verify_on_write=file.verify_on_write,
    )
    return Configuration(policy, settings, path, raw)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no policy file {path}", todo="Make one with 'cto.backups init', or name another with --policy."
        ) from None
    except IsADirectoryError:
        raise PolicyError(f"{path} is a folder", why="a policy is a file", todo="Name the file in it.") from None
    except OSError as error:
        raise PolicyError(f"The policy {path} cannot be read", why=error.strerror or "", todo="Check it.") from None
    if len(raw) > LARGEST_BYTES:
        raise PolicyError(f"The policy {path} is larger than 16 MiB", todo="Check that it is the right file.")
    return raw


def _decode(raw: bytes, path: Path) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
    # Outside the handler, so that the undecoded bytes do not hang on to the error.
    raise PolicyError(f"The policy {path} is not UTF-8", why=f"line {line} has bytes that are none", todo="Save it so.")


def _tree(text: str, path: Path) -> document.Node:
    page = Page(text)
    try:
        parsed = document.parse(text)
    except document.SyntaxMistakeError as error:
        blemish = error.blemish
        raise PolicyMistakesError(path, [page.mistake(blemish.span, blemish.message, todo=blemish.todo)]) from None
    if parsed.blemishes:
        found = [page.mistake(blemish.span, blemish.message, todo=blemish.todo) for blemish in parsed.blemishes]
        raise PolicyMistakesError(path, found)
    if parsed.root is None:
        raise PolicyMistakesError(path, [Mistake("there is nothing in it")], todo="Make one with 'cto.backups init'.")
    if parsed.root.kind != "mapping":
        raise PolicyMistakesError(path, [page.mistake(parsed.root.span, "settings by name must stand here")])
    return parsed.root


def _check_version(root: document.Node, path: Path) -> None:
    node = root.get("version")
    version = node.scalar if node else None
    if isinstance(version, int) and not isinstance(version, bool) and version > VERSION:
        raise PolicyError(
            f"The policy {path} has version {version}",
            why=f"this release of cto.backups knows version {VERSION}",
            todo="Use a newer release.",
        )


def _declared(root: document.Node, section: str) -> frozenset[str]:
    node = root.get(section)
    return frozenset(node.items) if node else frozenset()


def _told(misfit: Misfit, root: document.Node, page: Page) -> Mistake:
    node, key, reached = find(root, misfit.place)
    span = node.span if reached and node.kind == "scalar" else key or node.span
    return page.mistake(span, misfit.message, setting=".".join(misfit.place), todo=misfit.todo)
