"""What the scripts call: train.py and prune.py run a job, eval.py scores, compares, draws or packs."""
