"""The catalog on a PostgreSQL server, for many hosts at once; loaded only when the policy names one."""
