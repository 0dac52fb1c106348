"""Ways out of this repository: timing of networks, and adapters to other toolkits."""
