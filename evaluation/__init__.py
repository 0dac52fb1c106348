"""Everything about results: the commands, studies of cached stages, tracking and metrics, export, loggers, reports."""
