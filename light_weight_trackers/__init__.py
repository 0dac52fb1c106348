"""The commands of light-weight-trackers, and the place of its configuration, by a name of the project's own."""
