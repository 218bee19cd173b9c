"""What is known of a (user, candidate) pair, as numbers.

context.py holds what everybody's interactions and the items' texts say, made once; counting.py and related.py make the
counts from histories; asked.py is a batch of users with the pool of each; pool.py names the pool; content.py, counts.py
and sequence.py are the pieces, and table.py lists them. A piece is a pure function (context, asked) -> float32 [users,
width], NaN where nothing is known of the pair. Nothing here reads a table, and nothing is of the size users x items
for more than a batch.
"""
