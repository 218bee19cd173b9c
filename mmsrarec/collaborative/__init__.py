"""Collaborative evidence from item ids alone: sasrec.py -> index.py -> retrieve.py (similar users, candidates) ->
evidence.py (what is known about a user and a candidate, in numbers and in short words)."""
