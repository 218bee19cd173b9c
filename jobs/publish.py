"""The stage publish as a job of its own: python jobs/publish.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("publish")
