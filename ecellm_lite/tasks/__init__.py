"""What is asked: ECInstruct's ten tasks in the exact strings that the weights were trained on."""
