"""Produces results: the commands, studies as cached stages, tracking and metrics, export, loggers and reports."""
