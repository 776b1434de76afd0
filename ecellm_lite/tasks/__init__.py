"""The tasks: ECInstruct's ten, with exactly the prompts that the weights were trained on, and the user's own."""
