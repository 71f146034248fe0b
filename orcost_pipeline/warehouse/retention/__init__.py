"""What is kept for some time only, and what purges it. Costs, and what they follow from, are kept for good."""
