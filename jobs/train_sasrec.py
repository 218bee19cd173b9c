"""The stage train_sasrec as a job of its own: python jobs/train_sasrec.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("train_sasrec")
