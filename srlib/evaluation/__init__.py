"""Scores of pictures by the published protocol, and the tables, figures and report made of them."""
