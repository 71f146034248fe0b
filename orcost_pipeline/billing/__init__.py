"""What companies are charged: price plans × usage → charges, closed months, statements."""
