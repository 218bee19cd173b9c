"""The stage report as a job of its own: python jobs/report.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("report")
