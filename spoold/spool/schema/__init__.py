"""The schema, as numbered migrations: `NNNN_name.sql`, each run once, forward only."""
