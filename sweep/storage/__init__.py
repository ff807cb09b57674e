"""Whole files under a results root, sealed by their own checksums, and the tables' columns."""
