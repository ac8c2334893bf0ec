"""A node under load for a long time: `python -m benchmarks.soak`, or `make soak`.

`run.py` starts the load as a process of its own (`client.py`), which keeps sessions (`session.py`)
in a crowd (`crowd.py`), asks what it can check (`questions.py`) and keeps count (`ledger.py`).
`memory.py` looks at asyd meanwhile, `report.py` judges.
"""
