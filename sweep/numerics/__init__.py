"""Readouts, masks, evaluation and similarity as pure arrays; neither Ray nor MLflow."""
