"""The stage tune_recommender as a job of its own: python jobs/tune_recommender.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("tune_recommender")
