"""Storage: Delta tables through Arrow, spool (rows on their way to one), the run ledger, objects, Spark with Delta."""
