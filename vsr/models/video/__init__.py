"""Multi-frame models: detail comes from the neighbouring frames."""
