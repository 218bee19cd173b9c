"""Offline evaluation on held-out items; read downward: metrics -> protocol -> baselines, cascade -> evaluate -> report.

metrics    scores of a target and of the items beside it -> HR, NDCG, MRR, AUC with intervals (pure numpy)
protocol   histories, catalog -> who is tested, on what, against which items
baselines  popularity, co-occurrence, SASRec: users -> scores of the whole catalog
cascade    MMSRARec itself: users -> scores of the sampled items and of the retrieved candidates
evaluate   the stage: all methods under all protocols -> tables evaluation, evaluation_candidates
report     the table on the screen
"""
