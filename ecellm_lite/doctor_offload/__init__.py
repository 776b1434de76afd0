"""One row on the CPU and on the GPU, each in a process of its own: what a doctor may die of, it must survive."""
