"""The human comparison: trials for people, their answers as tables, how many are needed, and export."""
