"""The page about a night, one HTML file, from its ledger and tables.

tonight.py     which run, and what the ledger says of its stages
tally.py       values counted over tables of any size
lists.py, words.py, outcome.py   figures of the lists, of the keywords, of rejects, evaluation and training
figures.py     all of it together
plots.py       figures to pictures, by way of svg.py, which makes matplotlib's SVG fit into the page
thumbnails.py  item pictures, small and within a budget
page.py        everything into template/, safely, to one file
stage.py       the stage and the command
"""
