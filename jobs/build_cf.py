"""spark-submit jobs/build_cf.py --config conf/local.yaml: histories, catalog, co-occurrence and transitions."""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("build_cf")
