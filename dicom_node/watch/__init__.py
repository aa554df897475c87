"""What watches over the node: who did what with whose images."""
