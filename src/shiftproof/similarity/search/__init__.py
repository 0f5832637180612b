"""Exact search: an engine excludes most pairs of rows, and a question reduces the others to a
result.
"""
