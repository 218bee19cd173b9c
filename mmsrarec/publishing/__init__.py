"""Publishing: from staged lists to what readers see, the way back, and the removal of a user from all of it.

In: `staged_recommendations`. Out: `recommendations`, whose latest run_date is the current night; every change of it is
one commit, so a reader has one complete night or the other. Reading downward: figures (measures) -> gates (judges) ->
publish (the stage, and rollback); forget stands beside them, and clean, which takes away what nobody needs any more.
"""
