"""Scripts that make the bundled data; none of them is needed to install or run the package."""
