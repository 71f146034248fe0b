"""Statements of companies as files, and the commands that close a month and open it again."""
