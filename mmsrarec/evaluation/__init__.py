"""Offline evaluation on held-out items; read downward: lakes -> metrics -> protocol -> outcome -> methods -> evaluate.

lakes       evaluation.protocol -> the lakes that the night's stages make for it
metrics     scores of a target and of the items beside it -> HR, NDCG, MRR, AUC with intervals (pure numpy)
protocol    histories, catalog -> who is asked, for what, against which items
outcome     a method that scores items -> its ranks and lists under both protocols
baselines   co-occurrence, SASRec, GRU4Rec: what the night's tables and models say alone
item_item   popularity, item-kNN, EASE, TF-IDF: what training interactions and texts say, with parameters
tuning      those parameters, by validation questions
cascade     MMSRARec itself: users -> scores of the sampled items and of the retrieved candidates
fused       the linear fusion and gradient boosting: what all evidence says
boosting    the latter's trees
slices      questions by history, target and time
figures     outcomes -> rows of the table evaluation
evaluate    the stage: all methods under both protocols -> tables evaluation, evaluation_candidates
report      the tables on the screen
"""
