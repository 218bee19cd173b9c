"""The stage tune_summarizer as a job of its own: python jobs/tune_summarizer.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("tune_summarizer")
