"""The stage recommend as a job of its own: python jobs/recommend.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("recommend")
