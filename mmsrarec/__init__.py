"""mmsrarec: nightly multimodal recommendation for a whole catalog (the method of arXiv 2512.20916).

Rooms, in the order of the data: storage, engines -> preparation, collaborative, keywords, recommendation -> evaluation
-> training -> pipeline -> cli, jobs. Imports point to the left only; the stage rooms meet through Delta tables.
"""

__version__ = "0.1.0"
