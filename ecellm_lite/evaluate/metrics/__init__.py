"""The paper's metrics, computed from the gold answers and the model's answers. Each kind of answer has its own file."""
