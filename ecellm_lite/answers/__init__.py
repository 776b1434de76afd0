"""What may be answered: the spaces of answers, and the one mechanism that decides in them."""
