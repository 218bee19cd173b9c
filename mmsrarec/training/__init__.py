"""Training: batches.py and loss.py -> sasrec_trainer.py fits SASRec or GRU4Rec on the training split."""
