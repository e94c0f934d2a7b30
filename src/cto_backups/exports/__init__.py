"""Natively stored objects: each file of a point is one object, as it is, under a manifest; see docs/adr/0037.

`store.ExportStore` is the entrance; it implements `core.payloads.PayloadStore`. `layout` says where everything lies,
and `view` shows it to the code of repositories as if objects were packs, so that trees, locks, restores, verifications,
repairs and prunes are the very same. What is told apart is here: how objects are written (`objects`), the `manifest`,
`copying`, `needs` (which objects a prune keeps) and `mending` of objects. `joined` is a vault's store of both payloads.
"""
