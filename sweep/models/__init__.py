"""Backbones: the VGG-16 specification and where its weights come from."""
