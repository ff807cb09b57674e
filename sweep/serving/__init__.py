"""Finetuned models outside of their study: an image in, its class and a relevance map out."""
