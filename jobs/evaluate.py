"""Measure MMSRARec and its baselines on the held-out items: python jobs/evaluate.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("evaluate")
