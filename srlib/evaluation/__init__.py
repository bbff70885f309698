"""The benchmark: test sets, methods, scores, their statistics and tables, and the rows published in papers."""
