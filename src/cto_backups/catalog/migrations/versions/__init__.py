"""One module a version of the catalog's schema; never edited once released."""
