"""Collaborative evidence in the order of the imports: network.py (what a sequence model is) -> sasrec.py,
gru4rec.py -> checkpoint.py -> embed.py (histories to states) -> index.py (training users in Milvus); text.py (items'
text vectors), candidates.py, matrices.py, content.py, evidence.py and spool.py (pure pieces) -> retrieve.py (similar
users, candidates, and what is known about a user and a candidate)."""
