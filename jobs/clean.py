"""The stage clean as a job of its own: python jobs/clean.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("clean")
