"""The stage train_fusion as a job of its own: python jobs/train_fusion.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("train_fusion")
