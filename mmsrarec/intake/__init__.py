"""The user's own data before the first run, by Arrow alone: init writes a configuration, check says what is wrong.

dialect (how a CSV file is written) -> sources (open a table, here or on S3) -> values (judge rows as build_cf will)
-> names, profile, guess (which column is what) -> init (the commented configuration);
values -> facts (what a table holds) -> findings, data, model, machine -> check (the report).
"""
