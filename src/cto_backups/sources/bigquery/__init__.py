"""BigQuery projects: tables extracted as Avro at one moment, with all that an extract loses; `source` begins it."""
