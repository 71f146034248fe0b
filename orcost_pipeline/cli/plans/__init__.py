"""`orcost plans`: checks, previews and explains the price plans, and begins a file of them."""
