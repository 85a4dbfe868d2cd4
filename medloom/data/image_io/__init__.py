"""One module a family of file formats; `medloom.data.images` holds the tables that choose among them."""
