"""Published weights in other layouts than medloom reads: what lies in a folder, and its conversion."""
