"""A study's numbers and maps as files for other programs: CSV, Parquet, NumPy, PNG, and an R script that tests them."""
