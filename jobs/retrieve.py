"""The stage retrieve as a job of its own: python jobs/retrieve.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("retrieve")
