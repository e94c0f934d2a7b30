"""The catalog: facts only (sources, points, copies, evidence, runs, records), on SQLite through SQLAlchemy."""
