"""The tasks: the ten tasks of ECInstruct, and the tasks that users define.

The prompts of the ten tasks are exactly the prompts that the weights were trained on.
"""
