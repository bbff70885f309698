"""What DVC and git know about the repository, and the resume state of stages."""
