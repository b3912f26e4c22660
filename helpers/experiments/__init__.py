"""Ablations: a grid of frozen configurations, runs on an executor, records, and what they show."""
