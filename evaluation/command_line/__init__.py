"""The command line of train.py, prune.py and eval.py, read without heavy libraries: a wrong one is one message."""
