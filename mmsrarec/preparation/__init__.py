"""Preparation, Spark only: what users bring becomes clean tables.

In: `inputs.items` and `inputs.interactions`, under whatever column names they have. Out: catalog, histories,
item_cooccurrence, item_transitions, and a row in `rejects` for every row that cannot be used. Reading downward:
columns -> catalog, interactions -> histories -> cuts -> cooccurrence -> build_cf (the stage).
"""
