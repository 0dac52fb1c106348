"""The processes and devices that a job uses."""
