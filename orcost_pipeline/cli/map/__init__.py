"""`orcost map`: checks, previews, extends and explains the mapping, and shows its history."""
