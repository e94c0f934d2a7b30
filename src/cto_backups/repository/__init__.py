"""Repositories in the restic format, version 2: written and read by us, readable with stock `restic` and `rustic`.

`store.RepositoryStore` is the entrance; it implements `core.payloads.PayloadStore`. Below it, from bytes to meaning:
`seal` (encryption), `keys`, `stored` (sealed JSON files), `pack`, `index`, `tree`, `snapshot`, `locks`; then the
verbs `writer`, `restore`, `check`, `copying` and `prune` (with `stocktaking` and `marks`).
"""
