"""relevance-sweep: do two networks look at the same pixels?"""

__version__ = "0.1.0"
