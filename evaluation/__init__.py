"""Results of light-weight-trackers: commands, studies as cached stages, tracking, metrics, export, loggers, reports."""
