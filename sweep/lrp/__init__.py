"""Layer-wise relevance propagation, exact to iNNvestigate; pure TensorFlow."""
