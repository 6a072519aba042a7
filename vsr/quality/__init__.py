"""How good the result is: metrics, temporal steadiness, consistency, the report.

Depends on `media`, `color` and `models.flow`. Plans and check results reach it as plain data.
"""
