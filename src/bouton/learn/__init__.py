"""A 3-D U-Net: training on arrays, prediction in tiles that do not depend on blocks, model files."""
