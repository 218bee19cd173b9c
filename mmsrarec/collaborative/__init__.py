"""Collaborative evidence from item ids, in the order of the imports: sasrec.py (network, checkpoint) -> embed.py
(histories to states) -> index.py (training users in Milvus); candidates.py, matrices.py, content.py, evidence.py and
spool.py (pure pieces) -> retrieve.py (similar users, candidates, and what is known about a user and a candidate)."""
