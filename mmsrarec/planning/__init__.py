"""The price before the run: expected.py (stands in for tables that are not there yet), lake.py (tonight's inputs in
a temporary lake) -> plan.py (work and price of each stage that asks an engine) -> report.py (that on the screen)."""
