"""Collaborative evidence in the order of the imports: network.py (what a sequence model is) -> sasrec.py,
gru4rec.py -> checkpoint.py -> embed.py (histories to states) -> index.py (training users in Milvus); text.py (items'
text vectors), candidates.py, matrices.py, content.py and evidence.py (pure) -> pieces/ (the numbers known of a user and
a candidate) and networks.py (the networks that these ask) -> prerank.py with fusion.py -> retrieve.py (similar users,
candidates, and what is known about a user and a candidate)."""
