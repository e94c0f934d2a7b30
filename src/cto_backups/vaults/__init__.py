"""Where copies live: adapters that implement `core.vaults.Vault`."""
