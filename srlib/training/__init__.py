"""Training: losses, schedules, optimizers, the loop with its callbacks, pre-training, and the SRGAN in `gan`.

It needs neither MLflow nor DVC.
"""
