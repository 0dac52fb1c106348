"""The processes and devices of a job: how Hydra started it, which GPU it gets, and how several processes share it."""
