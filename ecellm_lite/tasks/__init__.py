"""The tasks: ECInstruct's ten, in the exact strings that the weights were trained on, and the user's own."""
