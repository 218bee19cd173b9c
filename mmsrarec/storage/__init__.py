"""Storage: tables (Delta through Arrow), the run ledger, objects (pictures) and the Spark session with Delta."""
