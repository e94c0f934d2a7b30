"""What is known of the word shares of an installation, and the vaults of a key drill."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cto_backups import registry
from cto_backups.app import Opened
from cto_backups.app.adapters import Adapters
from cto_backups.core.escrow import EscrowFacts
from cto_backups.errors import NotFoundError

if TYPE_CHECKING:
    from cto_backups.config import Configuration
    from cto_backups.core.vaults import Vault

REPOSITORY = "repositories/main"


def known_escrow(opening: Opened) -> EscrowFacts:
    """What the records of this installation's own signers say of shares and drills; nothing where none are asked for.

    Its signers are the key in use and those that the policy pins.
    """
    from cto_backups.flows.key_escrow import facts

    if opening.configuration.policy.escrow is None:
        return EscrowFacts()
    own = {fingerprint[:16] for fingerprint in opening.configuration.settings.evidence_fingerprints}
    own.add(opening.installation.signer.signer)
    return facts(opening.installation, sorted(own & set(opening.installation.catalog.signers())))


def vaults_of_drill(
    configuration: "Configuration | None", given: Sequence[str], repository: str | None
) -> "list[tuple[Vault, str]]":
    """The vaults to try, each with the place of its repository: folders, or names of vaults where there is a policy.

    Without `given`, all of the policy. No key is looked up. Raises NotFoundError.
    """
    adapters = Adapters(configuration) if configuration is not None else None
    declared = configuration.policy.vaults if configuration is not None else {}
    found: list[tuple[Vault, str]] = []
    for number, text in enumerate(given or declared, 1):
        if text in declared and adapters is not None:
            found.append((adapters.vault(text), repository or declared[text].repository))
            continue
        folder = Path(text.removeprefix("file:")).expanduser().absolute()
        if not folder.is_dir():
            raise NotFoundError(
                f"There is no vault {text}",
                why="it is no folder here, and no name of a vault of the policy",
                todo="Name the folder that the vault is in: the one with 'repositories' in it.",
            )
        name = folder.name if all(vault.name != folder.name for vault, _ in found) else f"{folder.name}-{number}"
        place = repository or ("." if (folder / "config").is_file() else REPOSITORY)
        vault: Vault = registry.load(registry.VAULTS, "file")(name, folder)
        found.append((vault, place))
    if not found:
        raise NotFoundError("No vault was named", todo="Name the folders of vaults: cto.backups key drill /mnt/disk")
    return found
