"""What the ledger tells: a table and a last line for people (ledger), metrics for Prometheus (metrics)."""
