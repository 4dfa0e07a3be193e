"""Tools for makers of the course."""
