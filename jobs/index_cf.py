"""The stage index_cf as a job of its own: python jobs/index_cf.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("index_cf")
