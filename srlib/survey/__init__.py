"""The blind opinion survey: page, server, answers and scores."""
