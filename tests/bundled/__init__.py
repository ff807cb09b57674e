"""Tests of the data that ships inside the package."""
