"""Keywords: prompt and answer parser (prompt.py), and the stage that asks for every item (summarize.py)."""
