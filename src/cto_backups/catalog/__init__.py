"""The catalog: facts only (sources, points, copies, evidence, runs, records), in SQLite's file or on PostgreSQL."""
