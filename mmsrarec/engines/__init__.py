"""Engines: types.py (what a request is), template.py (chat template of a model), adapters.py
(LoRA adapters in the lake), vllm.py (the only vLLM import), collector.py (large imports made sooner), cluster.py (the
Ray they run on), batch.py (the only Ray Data import: new requests through engine actors into `answers`)."""
