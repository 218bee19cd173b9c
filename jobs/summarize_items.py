"""The stage summarize_items as a job of its own: python jobs/summarize_items.py --config conf/local.yaml"""

from mmsrarec.cli import job

if __name__ == "__main__":
    job("summarize_items")
