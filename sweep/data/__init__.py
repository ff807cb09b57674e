"""Faces: where images and their labels come from."""
