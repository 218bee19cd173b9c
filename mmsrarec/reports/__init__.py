"""What a night has left, told: the ledger and its metrics, stories of users and items (explain), the page (page/)."""
