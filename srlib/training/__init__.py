"""Training: losses, schedules, the loop with its resume state, pre-training and the SRGAN.

Nothing here needs MLflow or DVC.
"""
