"""Maps of what a model's decision came from, by other methods than LRP (docs/attributions.md); pure TensorFlow and NumPy."""
