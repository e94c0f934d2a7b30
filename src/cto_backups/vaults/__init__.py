"""Where copies live: adapters that implement `core.ports.Vault`."""
