"""Training of the networks: sasrec_trainer.py fits SASRec on the training split."""
