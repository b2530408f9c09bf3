"""What can be asked of a store, as values: one module an area; `spool.store` names them all."""
