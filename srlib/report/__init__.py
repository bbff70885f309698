"""What a person looks at: the HTML report, plots and image strips."""
