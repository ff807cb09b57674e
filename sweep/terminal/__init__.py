"""What a terminal shows: progress, a study that runs elsewhere, tables."""
