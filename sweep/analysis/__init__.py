"""Runs the SQL of queries/ on a study's tables."""
