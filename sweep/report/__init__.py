"""What people look at: figures, tables and the summary of a run."""
