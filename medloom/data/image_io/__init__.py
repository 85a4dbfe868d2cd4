"""One module per family of file formats; the tables of `medloom.data.images` choose among them."""
